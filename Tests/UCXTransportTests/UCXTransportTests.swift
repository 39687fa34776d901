// Tests of UCXTransport.
