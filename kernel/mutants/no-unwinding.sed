# Expected to fail: every-allocation
# What a failed call has mapped stays mapped.
/^\tif \(err\)$/{N;s/^\tif \(err\)\n\t\ttwin_unmap\(t->dmm, dst, done\);/\tif (err \&\& !done)\n\t\ttwin_unmap(t->dmm, dst, done);/}
