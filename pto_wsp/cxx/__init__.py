"""C++ that is compiled on this machine: the compiler, the cache of what it made, and the libraries in this process."""
