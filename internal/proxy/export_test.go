package proxy

// ParseRange is for the fuzz target.
var ParseRange = parseRange
