// Cluster file, handshake, membership, routing.
