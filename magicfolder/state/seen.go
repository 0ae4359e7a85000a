package state

import "warren/magicfolder/remote"

// Seen gives the version of a path that somebody showed last, a directory or whoever
// signs with a key; "" when none is remembered.
func (t *Tx) Seen(whose, key string) remote.Cap {
	b := t.all.Bucket([]byte("seen"))
	if b == nil {
		return ""
	}
	return remote.Cap(b.Get(seenAt(whose, key)))
}

// PutSeen remembers it.
func (t *Tx) PutSeen(whose, key string, c remote.Cap) error {
	b, err := t.all.CreateBucketIfNotExists([]byte("seen"))
	if err != nil {
		return err
	}
	return b.Put(seenAt(whose, key), []byte(c))
}

func seenAt(whose, key string) []byte { return append(digest(remote.Cap(whose))[:16], key...) }
