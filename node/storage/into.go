package storage

import "context"

type intoKey struct{}

// Into offers ReadShare a buffer for its answer. A Client that uses it returns a
// part of it, from its beginning; others allocate, as they would without the offer.
func Into(ctx context.Context, buf []byte) context.Context {
	return context.WithValue(ctx, intoKey{}, buf)
}

// Offered is for those who implement ReadShare: the buffer that they may use, of
// size bytes, or nil.
func Offered(ctx context.Context, size uint64) []byte {
	buf, _ := ctx.Value(intoKey{}).([]byte)
	if uint64(cap(buf)) < size {
		return nil
	}
	return buf[:size]
}
