package main

import "htlcdash/internal/trial"

func madeUp() []trial.Link { return nil }
