// Package banana is Foolscap's serialisation: token streams that carry numbers,
// strings and nested sequences over one connection.
//
// # Layout
//
// A token is a header, a type byte (0x80 to 0x8f) and, for some types, a body.
// The header is an unsigned number in base 128, least significant digit first,
// each digit a byte below 0x80; no digits mean 0. (Foolscap
// doc/specifications/banana.rst, "Banana Tokens"; foolscap/tokens.py decides.)
//
//	type  name     header             body
//	0x81  INT      value, < 2^31      -
//	0x82  STRING   length             that many bytes
//	0x83  NEG      -value, <= 2^31    -
//	0x84  FLOAT    none               8 bytes, big-endian IEEE 754
//	0x85  LONGINT  length             big-endian magnitude
//	0x86  LONGNEG  length             big-endian magnitude of a negative number
//	0x87  VOCAB    index              - (a string of the vocabulary)
//	0x88  OPEN     sequence number    -
//	0x89  CLOSE    same number        -
//	0x8a  ABORT    any                - (the open sequence is given up)
//	0x8d  ERROR    length             text; the sender then hangs up
//	0x8e  PING     number             - (between any two tokens)
//	0x8f  PONG     number             -
//
// A sequence is OPEN, its type as a STRING or VOCAB, its items, CLOSE. OPENs are
// numbered per direction of a connection from 0. The types that this package
// understands, and what they are in Go:
//
//	none ()                   nil
//	boolean (0 or 1)          bool
//	unicode (STRING)          string, valid UTF-8
//	list (item...)            []any
//	tuple (item...)           Tuple
//	set, immutable-set        Set, FrozenSet
//	dict (key, value, ...)    Dict, in the order sent
//	reference (n)             the value of the OPEN numbered n of this message
//	others                    Sequence, or what Decoder.Resolve makes of it
//
// Bare tokens are int64 (or *big.Int, outside its range), float64 and []byte.
// Copyables are a Sequence of type "copyable" whose first item is the class name.
//
// # Bounds
//
// A Decoder reads from hostile peers: Limits bounds a message's strings, its
// depth and its memory, and a reference counts as much as what it refers to, so
// that no small message unfolds into a large value. What passes a bound is a
// *Violation: the rest of the message is read and dropped without being kept, and
// the stream goes on. What breaks the token grammar is ErrProtocol and ends the
// stream.
//
// Not here: the old LIST token, set-vocab and add-vocab (no peer of Foolscap's PB
// layer accepts them), and streaming within a message.
package banana
