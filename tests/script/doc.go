// Package script runs the stories in testdata: each is a tutorial of the command
// line that is executed as it stands, with the built binary and real processes on
// loopback. script_test.go says which commands they have beside testscript's own.
package script
