# Expected to fail: migration-meanwhile
# The source's VMA is put behind its twin in the order in which rmap walks visit them.
/^\terr = anon_vma_fork\(vma, svma\);/a\
	if (!err && svma->anon_vma) {\
		struct anon_vma_chain *avc;\
\
		anon_vma_lock_write(svma->anon_vma);\
		list_for_each_entry(avc, &svma->anon_vma_chain, same_vma) {\
			anon_vma_interval_tree_remove(avc, &avc->anon_vma->rb_root);\
			anon_vma_interval_tree_insert(avc, &avc->anon_vma->rb_root);\
		}\
		anon_vma_unlock_write(svma->anon_vma);\
	}
