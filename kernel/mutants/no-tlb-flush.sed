# Expected to fail: cut
# A thread of the source goes on writing through its TLB to pages that the destination has too.
/^\tflush_tlb_range\(t->svma/d
