"""Many processes that train one model: sums over a process group."""
