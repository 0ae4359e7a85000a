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

type expectingKey struct{}

// Expecting tells ReadSlot, when it is asked for all shares held, which ones the server
// had before: where it takes one question to find out and others to read, a Client may
// ask both at once.
func Expecting(ctx context.Context, shares []int) context.Context {
	return context.WithValue(ctx, expectingKey{}, shares)
}

// Expected is for those who implement ReadSlot: the shares that are likely to be there.
func Expected(ctx context.Context) []int {
	shares, _ := ctx.Value(expectingKey{}).([]int)
	return shares
}
