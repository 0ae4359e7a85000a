package gbs

import (
	"maps"
	"slices"

	"warren/node/storage"
)

// The schemas' limits, Tahoe's numbers.
const (
	maxShares  = storage.MaxShare + 1
	maxVectors = 30
	maxReason  = 32765
	// maxWrites is ours: the write vectors of one request. Tahoe, which sends all of
	// a share in one, needs a few a segment; each costs us much more than its bytes.
	maxWrites = 1 << 20
)

// protocolKey names the storage protocol in a version message; like every key of
// that message it is a byte string.
const (
	protocolKey    = "http://allmydata.org/tahoe/protocols/storage/v1"
	applicationKey = "application-version"
	immutableKey   = "maximum-immutable-share-size"
	mutableKey     = "maximum-mutable-share-size"
	availableKey   = "available-space"
)

// decode reads a whole message.
func decode[T any](body []byte, read func(*reader) (T, error)) (T, error) {
	r := &reader{body}
	v, err := read(r)
	if err == nil {
		err = r.end()
	}
	if err != nil {
		var none T
		return none, err
	}
	return v, nil
}

func encodeVersion(v storage.Version) []byte {
	w := &writer{}
	w.head(majorMap, 2)
	w.bytes([]byte(protocolKey))
	w.head(majorMap, 3)
	w.bytes([]byte(immutableKey))
	w.uint(v.MaximumImmutableShareSize)
	w.bytes([]byte(mutableKey))
	w.uint(v.MaximumMutableShareSize)
	w.bytes([]byte(availableKey))
	w.uint(v.AvailableSpace)
	w.bytes([]byte(applicationKey))
	w.bytes([]byte(v.Application))
	return w.out
}

// readVersion reads a version message. Keys that it does not know are passed over:
// a later server may say more of itself.
func readVersion(r *reader) (storage.Version, error) {
	var v storage.Version
	var application []byte
	err := r.byteObject([]string{protocolKey, applicationKey}, func(key string) (err error) {
		if key == applicationKey {
			application, err = r.bytes()
			return err
		}
		return r.byteObject([]string{immutableKey, mutableKey, availableKey}, func(key string) (err error) {
			n, err := r.uint()
			switch key {
			case immutableKey:
				v.MaximumImmutableShareSize = n
			case mutableKey:
				v.MaximumMutableShareSize = n
			case availableKey:
				v.AvailableSpace = n
			}
			return err
		})
	})
	v.Application = string(application)
	return v, err
}

// byteObject reads a map of byte string keys, among them each of those named; the
// others are passed over.
func (r *reader) byteObject(keys []string, value func(key string) error) error {
	n, err := r.expect(majorMap, "a map")
	if err != nil {
		return err
	}
	count, err := r.count(n, 64, 2)
	if err != nil {
		return err
	}
	var seen uint64
	for range count {
		key, err := r.bytes()
		if err != nil {
			return err
		}
		i := index(keys, string(key))
		if i < 0 {
			if err := r.skip(8); err != nil {
				return err
			}
			continue
		}
		if seen&(1<<i) != 0 {
			return malformed("a repeated key")
		}
		seen |= 1 << i
		if err := value(keys[i]); err != nil {
			return err
		}
	}
	if seen != 1<<len(keys)-1 {
		return malformed("a missing key")
	}
	return nil
}

// allocation asks for buckets, or answers with those held and allocated.
type allocation struct {
	Shares []int
	Size   uint64
}

func (a allocation) encode() []byte {
	w := &writer{}
	w.head(majorMap, 2)
	w.text("share-numbers")
	w.set(a.Shares)
	w.text("allocated-size")
	w.uint(a.Size)
	return w.out
}

func readAllocation(r *reader) (a allocation, err error) {
	err = r.object([]string{"share-numbers", "allocated-size"}, func(key string) (err error) {
		if key == "share-numbers" {
			a.Shares, err = r.set()
		} else {
			a.Size, err = r.uint()
		}
		return err
	})
	return a, err
}

type allocated struct{ AlreadyHave, Allocated []int }

func (a allocated) encode() []byte {
	w := &writer{}
	w.head(majorMap, 2)
	w.text("already-have")
	w.set(a.AlreadyHave)
	w.text("allocated")
	w.set(a.Allocated)
	return w.out
}

func readAllocated(r *reader) (a allocated, err error) {
	err = r.object([]string{"already-have", "allocated"}, func(key string) (err error) {
		if key == "allocated" {
			a.Allocated, err = r.set()
		} else {
			a.AlreadyHave, err = r.set()
		}
		return err
	})
	return a, err
}

func encodeShares(all []int) []byte {
	w := &writer{}
	w.set(all)
	return w.out
}

func readShares(r *reader) ([]int, error) { return r.set() }

func encodeReason(reason string) []byte {
	w := &writer{}
	w.head(majorMap, 1)
	w.text("reason")
	w.text(reason)
	return w.out
}

func readReason(r *reader) (reason string, err error) {
	err = r.object([]string{"reason"}, func(string) (err error) {
		if reason, err = r.text(); err == nil && (reason == "" || len(reason) > maxReason) {
			err = malformed("a reason has 1 to %d bytes", maxReason)
		}
		return err
	})
	return reason, err
}

func encodeRequired(all []storage.Range) []byte {
	w := &writer{}
	w.head(majorMap, 1)
	w.text("required")
	w.head(majorArray, uint64(len(all)))
	for _, r := range all {
		w.head(majorMap, 2)
		w.text("begin")
		w.uint(r.Begin)
		w.text("end")
		w.uint(r.End)
	}
	return w.out
}

func readRequired(r *reader) (all []storage.Range, err error) {
	err = r.object([]string{"required"}, func(string) error {
		return r.array(1<<16, func() error {
			var one storage.Range
			err := r.uints([]string{"begin", "end"}, &one.Begin, &one.End)
			all = append(all, one)
			return err
		})
	})
	return all, err
}

// uints reads a map of text keys to unsigned integers.
func (r *reader) uints(keys []string, into ...*uint64) error {
	return r.object(keys, func(key string) (err error) {
		*into[index(keys, key)], err = r.uint()
		return err
	})
}

// readTestWrite is the request of the operation of that name.
type readTestWrite struct {
	Shares map[int]storage.TestWrite
	Read   []storage.ReadVector
}

func (q readTestWrite) encode() []byte { return slices.Concat(q.pieces()...) }

// largePiece is from what size on what is written is sent from where it stands.
const largePiece = 64 << 10

// pieces are the message without a copy of large data.
func (q readTestWrite) pieces() [][]byte {
	w := &writer{large: largePiece}
	w.head(majorMap, 2)
	w.text("test-write-vectors")
	w.head(majorMap, uint64(len(q.Shares)))
	for _, n := range slices.Sorted(maps.Keys(q.Shares)) {
		t := q.Shares[n]
		w.uint(uint64(n))
		w.head(majorMap, 3)
		w.text("test")
		w.head(majorArray, uint64(len(t.Test)))
		for _, v := range t.Test {
			w.head(majorMap, 3)
			w.text("offset")
			w.uint(v.Offset)
			w.text("size")
			w.uint(v.Size)
			w.text("specimen")
			w.bytes(v.Specimen)
		}
		w.text("write")
		w.head(majorArray, uint64(len(t.Write)))
		for _, v := range t.Write {
			w.head(majorMap, 2)
			w.text("offset")
			w.uint(v.Offset)
			w.text("data")
			w.bytes(v.Data)
		}
		w.text("new-length")
		if t.NewLength == nil {
			w.null()
		} else {
			w.uint(*t.NewLength)
		}
	}
	w.text("read-vector")
	w.head(majorArray, uint64(len(q.Read)))
	for _, v := range q.Read {
		w.head(majorMap, 2)
		w.text("offset")
		w.uint(v.Offset)
		w.text("size")
		w.uint(v.Size)
	}
	return append(w.parts, w.out)
}

func readReadTestWrite(r *reader) (readTestWrite, error) { return r.readTestWrite(maxWrites) }

// readTestWrite reads a request of at most so many writes.
func (r *reader) readTestWrite(writes int) (readTestWrite, error) {
	q := readTestWrite{Shares: map[int]storage.TestWrite{}}
	err := r.object([]string{"test-write-vectors", "read-vector"}, func(key string) error {
		if key == "read-vector" {
			return r.array(maxVectors, func() error {
				var v storage.ReadVector
				err := r.uints([]string{"offset", "size"}, &v.Offset, &v.Size)
				q.Read = append(q.Read, v)
				return err
			})
		}
		return r.shareMap(func(share int) (err error) {
			q.Shares[share], err = r.testWrite(writes)
			writes -= len(q.Shares[share].Write)
			return err
		})
	})
	return q, err
}

// testWrite reads what is asked of one share: at most so many writes.
func (r *reader) testWrite(writes int) (t storage.TestWrite, err error) {
	err = r.object([]string{"test", "write", "new-length"}, func(key string) error {
		switch key {
		case "test":
			return r.array(maxVectors, func() error {
				var v storage.TestVector
				err := r.object([]string{"offset", "size", "specimen"}, func(key string) (err error) {
					switch key {
					case "offset":
						v.Offset, err = r.uint()
					case "size":
						v.Size, err = r.uint()
					default:
						v.Specimen, err = r.bytes()
					}
					return err
				})
				t.Test = append(t.Test, v)
				return err
			})
		case "write":
			return r.array(writes, func() error {
				var v storage.WriteVector
				err := r.object([]string{"offset", "data"}, func(key string) (err error) {
					if key == "offset" {
						v.Offset, err = r.uint()
					} else {
						v.Data, err = r.bytes()
					}
					return err
				})
				t.Write = append(t.Write, v)
				return err
			})
		default:
			if r.null() {
				return nil
			}
			n, err := r.uint()
			t.NewLength = &n
			return err
		}
	})
	return t, err
}

// readTestWriteResult is its answer.
type readTestWriteResult struct {
	Success bool
	Data    map[int][][]byte
}

func (a readTestWriteResult) encode() []byte {
	size := 64
	for _, parts := range a.Data {
		size += 16
		for _, p := range parts {
			size += 16 + len(p)
		}
	}
	w := &writer{out: make([]byte, 0, size)}
	w.head(majorMap, 2)
	w.text("success")
	w.bool(a.Success)
	w.text("data")
	w.head(majorMap, uint64(len(a.Data)))
	for _, n := range slices.Sorted(maps.Keys(a.Data)) {
		w.uint(uint64(n))
		w.head(majorArray, uint64(len(a.Data[n])))
		for _, p := range a.Data[n] {
			w.bytes(p)
		}
	}
	return w.out
}

func readReadTestWriteResult(r *reader) (readTestWriteResult, error) {
	a := readTestWriteResult{Data: map[int][][]byte{}}
	err := r.object([]string{"success", "data"}, func(key string) (err error) {
		if key == "success" {
			a.Success, err = r.bool()
			return err
		}
		return r.shareMap(func(share int) error {
			parts := [][]byte{}
			err := r.array(maxVectors, func() error {
				p, err := r.bytes()
				parts = append(parts, p)
				return err
			})
			a.Data[share] = parts
			return err
		})
	})
	return a, err
}
