// A transport over UCP.
