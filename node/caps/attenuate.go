package caps

import "warren/node/taghash"

// Attenuation: each method returns the next weaker capability.

// StorageIndex names the file's shares.
func (c CHK) StorageIndex() StorageIndex { return taghash.StorageIndex(c.Key) }

// Verify returns the capability that checks the file without reading it.
func (c CHK) Verify() CHKVerify {
	return CHKVerify{c.StorageIndex(), c.UEBHash, c.Needed, c.Total, c.Size}
}

// StorageIndex names the file's shares.
func (c CHKVerify) StorageIndex() StorageIndex { return c.Index }

// Read returns the capability that reads but does not write.
func (c SSKWrite) Read() SSKRead { return SSKRead{taghash.SSKReadKey(c.WriteKey), c.Fingerprint} }

// Verify returns the capability that checks without reading.
func (c SSKWrite) Verify() SSKVerify { return c.Read().Verify() }

// StorageIndex names the file's shares.
func (c SSKWrite) StorageIndex() StorageIndex { return c.Read().StorageIndex() }

// Verify returns the capability that checks without reading.
func (c SSKRead) Verify() SSKVerify { return SSKVerify{c.StorageIndex(), c.Fingerprint} }

// StorageIndex names the file's shares.
func (c SSKRead) StorageIndex() StorageIndex { return taghash.SSKStorageIndex(c.ReadKey) }

// StorageIndex names the file's shares.
func (c SSKVerify) StorageIndex() StorageIndex { return c.Index }

// Read returns the capability that reads but does not write. As in Tahoe, the
// extension stays behind.
func (c MDMFWrite) Read() MDMFRead {
	return MDMFRead{ReadKey: taghash.SSKReadKey(c.WriteKey), Fingerprint: c.Fingerprint}
}

// Verify returns the capability that checks without reading.
func (c MDMFWrite) Verify() MDMFVerify { return c.Read().Verify() }

// StorageIndex names the file's shares.
func (c MDMFWrite) StorageIndex() StorageIndex { return c.Read().StorageIndex() }

// Verify returns the capability that checks without reading.
func (c MDMFRead) Verify() MDMFVerify {
	return MDMFVerify{Index: c.StorageIndex(), Fingerprint: c.Fingerprint}
}

// StorageIndex names the file's shares.
func (c MDMFRead) StorageIndex() StorageIndex { return taghash.SSKStorageIndex(c.ReadKey) }

// StorageIndex names the file's shares.
func (c MDMFVerify) StorageIndex() StorageIndex { return c.Index }

// Directories: the same, and File is the file that holds the directory.

// Read returns the capability that lists but does not change.
func (c DirWrite) Read() DirRead { return DirRead{c.SSKWrite.Read()} }

// Verify returns the capability that checks without reading.
func (c DirWrite) Verify() DirVerify { return DirVerify{c.SSKWrite.Verify()} }

// File is the mutable file that holds the directory.
func (c DirWrite) File() SSKWrite { return c.SSKWrite }

// Verify returns the capability that checks without reading.
func (c DirRead) Verify() DirVerify { return DirVerify{c.SSKRead.Verify()} }

// File is the mutable file that holds the directory.
func (c DirRead) File() SSKRead { return c.SSKRead }

// File is the mutable file that holds the directory.
func (c DirVerify) File() SSKVerify { return c.SSKVerify }

// Read returns the capability that lists but does not change.
func (c DirMDMFWrite) Read() DirMDMFRead { return DirMDMFRead{c.MDMFWrite.Read()} }

// Verify returns the capability that checks without reading.
func (c DirMDMFWrite) Verify() DirMDMFVerify { return DirMDMFVerify{c.MDMFWrite.Verify()} }

// File is the mutable file that holds the directory.
func (c DirMDMFWrite) File() MDMFWrite { return c.MDMFWrite }

// Verify returns the capability that checks without reading.
func (c DirMDMFRead) Verify() DirMDMFVerify { return DirMDMFVerify{c.MDMFRead.Verify()} }

// File is the mutable file that holds the directory.
func (c DirMDMFRead) File() MDMFRead { return c.MDMFRead }

// File is the mutable file that holds the directory.
func (c DirMDMFVerify) File() MDMFVerify { return c.MDMFVerify }

// Verify returns the capability that checks without reading.
func (c DirCHK) Verify() DirCHKVerify { return DirCHKVerify{c.CHK.Verify()} }

// File is the immutable file that holds the directory.
func (c DirCHK) File() CHK { return c.CHK }

// File is the immutable file that holds the directory.
func (c DirCHKVerify) File() CHKVerify { return c.CHKVerify }

// File is the literal that holds the directory.
func (c DirLIT) File() LIT { return c.LIT }

// ReadOnly returns the strongest capability in c that gives no right to write: c
// itself when that is so already, nil for an Unknown that is not even alleged to
// be read-only.
func ReadOnly(c Cap) Cap {
	switch c := c.(type) {
	case SSKWrite:
		return c.Read()
	case MDMFWrite:
		return c.Read()
	case DirWrite:
		return c.Read()
	case DirMDMFWrite:
		return c.Read()
	case Unknown:
		if !c.AllegedReadOnly() {
			return nil
		}
	}
	return c
}

// Verifier returns the capability that checks without reading: c itself when it is
// one, nil for literals, which need no check, and for Unknown.
func Verifier(c Cap) Cap {
	switch c := c.(type) {
	case LIT, DirLIT, Unknown:
		return nil
	case CHK:
		return c.Verify()
	case SSKWrite:
		return c.Verify()
	case SSKRead:
		return c.Verify()
	case MDMFWrite:
		return c.Verify()
	case MDMFRead:
		return c.Verify()
	case DirWrite:
		return c.Verify()
	case DirRead:
		return c.Verify()
	case DirMDMFWrite:
		return c.Verify()
	case DirMDMFRead:
		return c.Verify()
	case DirCHK:
		return c.Verify()
	}
	return c
}

// File returns the capability of the file that holds a directory, and any other c
// unchanged.
func File(c Cap) Cap {
	switch c := c.(type) {
	case DirWrite:
		return c.File()
	case DirRead:
		return c.File()
	case DirVerify:
		return c.File()
	case DirMDMFWrite:
		return c.File()
	case DirMDMFRead:
		return c.File()
	case DirMDMFVerify:
		return c.File()
	case DirCHK:
		return c.File()
	case DirCHKVerify:
		return c.File()
	case DirLIT:
		return c.File()
	}
	return c
}

// Dir returns the capability of the directory that the file c holds; false when c
// is not a file that can hold one.
func Dir(c Cap) (Cap, bool) {
	switch c := c.(type) {
	case SSKWrite:
		return DirWrite{c}, true
	case SSKRead:
		return DirRead{c}, true
	case SSKVerify:
		return DirVerify{c}, true
	case MDMFWrite:
		return DirMDMFWrite{c}, true
	case MDMFRead:
		return DirMDMFRead{c}, true
	case MDMFVerify:
		return DirMDMFVerify{c}, true
	case CHK:
		return DirCHK{c}, true
	case CHKVerify:
		return DirCHKVerify{c}, true
	case LIT:
		return DirLIT{c}, true
	}
	return nil, false
}

// IsDir says that c names a directory.
func IsDir(c Cap) bool {
	switch c.(type) {
	case DirWrite, DirRead, DirVerify, DirMDMFWrite, DirMDMFRead, DirMDMFVerify, DirCHK, DirCHKVerify, DirLIT:
		return true
	}
	return false
}

// IsVerifier says that c checks without reading.
func IsVerifier(c Cap) bool {
	switch c.(type) {
	case CHKVerify, SSKVerify, MDMFVerify, DirVerify, DirMDMFVerify, DirCHKVerify:
		return true
	}
	return false
}

// IsMutable says that what c names can change, whether or not c gives the right to
// change it. (A verifier of a mutable file is mutable here: its shares lie in
// slots.)
func IsMutable(c Cap) bool {
	switch File(c).(type) {
	case SSKWrite, SSKRead, SSKVerify, MDMFWrite, MDMFRead, MDMFVerify:
		return true
	}
	return false
}

// IsImmutable says that what c names never changes; of an Unknown, that it is
// alleged. An Unknown may be neither mutable nor immutable.
func IsImmutable(c Cap) bool {
	switch f := File(c).(type) {
	case LIT, CHK, CHKVerify:
		return true
	case Unknown:
		return f.AllegedImmutable()
	}
	return false
}

// IsReadOnly says that c gives no right to write; of an Unknown, that it is
// alleged.
func IsReadOnly(c Cap) bool {
	switch f := File(c).(type) {
	case SSKWrite, MDMFWrite:
		return false
	case Unknown:
		return f.AllegedReadOnly()
	}
	return true
}

// Index is the storage index of what c names; false for literals and Unknown,
// which have none.
func Index(c Cap) (StorageIndex, bool) {
	if i, ok := c.(interface{ StorageIndex() StorageIndex }); ok {
		return i.StorageIndex(), true
	}
	return StorageIndex{}, false
}
