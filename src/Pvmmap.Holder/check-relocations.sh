#!/bin/sh
# check-relocations.sh OBJECT: the image runs wherever it is mapped, so the sections that go into it may refer to nothing by absolute address.
set -eu
object=$1
wrong=$(readelf -rW "$object" | awk '
    /^Relocation section/ { section = $3; gsub(/\x27/, "", section); sub(/^\.rela?/, "", section)
                            included = section ~ /^(__managedcode|\.text|\.rodata)/ }
    included && $3 ~ /^R_/ && $3 !~ /^R_X86_64_(PC32|PLT32)$|^R_AARCH64_(CALL26|JUMP26|PREL32|ADR_PREL_PG_HI21|ADD_ABS_LO12_NC|LDST[0-9]+_ABS_LO12_NC)$/ { print "  " section "+0x" $1 ": " $3 " " $5 }')
if [ -n "$wrong" ]; then
    echo "$object: error: the freestanding code is not position-independent (a static field, a string, a jump table?):" >&2
    echo "$wrong" >&2
    exit 1
fi
