# Expected to fail: pins-meanwhile
# A page that is pinned without a lock (GUP-fast) between the check for pins and the write protection is shared all the same.
/raw_write_seqcount_(begin|end)\(&t->smm->write_protect_seq\)/d
