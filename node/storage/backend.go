package storage

import (
	"io"

	"warren/node/caps"
	"warren/node/storage/container"
)

// MaxShare is the largest share number: codes have at most 256 shares.
const MaxShare = 255

// Backend keeps share files. It knows nothing of what is inside them.
//
// The Server calls it with share numbers 0..MaxShare, and serialises the calls
// for one storage index: Publish and Amend exclude every other call for it. Calls
// for different storage indexes come concurrently, and a Draft is written and
// discarded while others are at work.
//
// Errors: ErrNoShare when a named share is not there, ErrNoSpace when the medium
// is full, else whatever the medium says. A call that failed may or may not have
// taken effect, but for each share as a whole.
type Backend interface {
	// Shares lists the visible share files of a storage index, ascending.
	Shares(si caps.StorageIndex) ([]int, error)
	// Open opens a visible share file for reading.
	Open(si caps.StorageIndex, share int) (File, error)
	// Draft starts an invisible share file: empty, or a copy of the visible one.
	// Drafts do not survive a restart.
	Draft(si caps.StorageIndex, share int, copied bool) (Draft, error)
	// Publish makes each draft the visible share of its number and removes the
	// named shares. On return all of it is durable. Each share changes atomically;
	// a crash amid several may leave some changed. The drafts are used up, whatever
	// the outcome; removing what is not there is no error.
	Publish(si caps.StorageIndex, drafts map[int]Draft, remove []int) error
	// Amend writes into a visible share file, each patch durable before the next.
	Amend(si caps.StorageIndex, share int, patches []container.Patch) error
	// Available is how many bytes the medium still takes.
	Available() (uint64, error)
	// Advise keeps a corruption advisory under name, durably; if the name is taken,
	// under one that begins with it.
	Advise(name string, text []byte) error
}

// Amender is a Backend that amends several shares at once, at the price of one.
type Amender interface {
	// AmendAll is Amend for each of the shares: each patch of a file is durable before
	// the next of that file.
	AmendAll(si caps.StorageIndex, patches map[int][]container.Patch) error
}

// File is a visible share file, open for reading.
type File interface {
	io.ReaderAt
	Size() (int64, error)
	io.Closer
}

// Draft is a share file in the making. It is not safe for concurrent use.
type Draft interface {
	io.ReaderAt
	io.WriterAt
	Size() (int64, error)
	// Discard drops it; after Publish it does nothing.
	Discard() error
}
