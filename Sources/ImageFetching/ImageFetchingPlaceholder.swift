// Images from the network, within limits.
