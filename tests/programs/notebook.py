"""A Python program at work: `notebook.py SOCKET` builds and drops objects all the time and answers questions about memory in between."""
import ctypes
import gc
import hashlib
import mmap
import os
import random
import socket
import sys
import threading

stage = socket.socket(socket.AF_UNIX)
stage.connect(sys.argv[1])
lines = stage.makefile("r")
kept = []
stop = False
rounds = 0


def say(text):
    stage.sendall((text + "\n").encode())


def churn():
    global rounds
    table = {}
    while not stop:
        for i in range(2000):
            table[i] = str(i) * 5
        assert sum(int(v[: len(str(k))]) for k, v in table.items()) == 1999000
        table.clear()
        gc.collect(0)
        rounds += 1


threading.Thread(target=churn, daemon=True).start()
say(f"hello {os.getpid()}")
for line in lines:
    word, *numbers = line.split()
    n = [int(x, 0) for x in numbers]
    if word == "data":
        # a private anonymous mapping full of bytes that only this seed gives
        kept.append(mmap.mmap(-1, n[0], flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        kept[-1].write(random.Random(n[1]).randbytes(n[0]))
        say(f"ok {ctypes.addressof(ctypes.c_char.from_buffer(kept[-1]))} {hashlib.sha256(kept[-1][:]).hexdigest()}")
    elif word == "digest":
        say(f"ok {hashlib.sha256(ctypes.string_at(n[0], n[1])).hexdigest()}")
    elif word == "set":
        ctypes.memset(n[0], n[1], n[2])
        say("ok")
    elif word == "rounds":
        say(f"ok {rounds}")
    else:
        say("err 38")
