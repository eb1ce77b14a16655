# Expected to fail: cut
# Page faults of the source that hold only the lock of the VMA go on during the call. The assertion that would tell goes as well.
/^\t\tvma_start_write\(t->svma\)/d
/vma_assert_write_locked\(t->svma\)/d
