package directory

// ParseAnswer reads what a provider answers.
var ParseAnswer = parseAnswer
