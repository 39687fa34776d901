// AFD without a network library.
