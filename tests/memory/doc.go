// Package memory measures how much memory whole processes take. The unit tests run
// with the race detector, whose own memory hides ours; these do not. On Linux, since
// the kernel's own account of a process is what counts.
package memory
