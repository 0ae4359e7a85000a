package expire

// ParseState is for the fuzz target.
var ParseState = parseState
