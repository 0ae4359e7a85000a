package gbs

import "time"

// SetStall shortens a client's patience.
func SetStall(c *Client, d time.Duration) { c.stall = d }

// Authorization is the header for a swissnum.
func Authorization(swissnum string) string { return authorization(swissnum) }
