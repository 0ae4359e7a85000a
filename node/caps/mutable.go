package caps

// MutableWrite changes a mutable file: SSKWrite or MDMFWrite, or the capability of
// a directory that is kept in one.
type MutableWrite interface {
	Cap
	StorageIndex() StorageIndex
	mutableWrite()
}

// MutableRead reads a mutable file: SSKRead or MDMFRead, or the capability of a
// directory that is kept in one.
type MutableRead interface {
	Cap
	StorageIndex() StorageIndex
	mutableRead()
}

// MutableVerify checks a mutable file: SSKVerify or MDMFVerify, or the capability
// of a directory that is kept in one.
type MutableVerify interface {
	Cap
	StorageIndex() StorageIndex
	mutableVerify()
}

// WriteDir changes a directory: DirWrite or DirMDMFWrite.
type WriteDir interface {
	MutableWrite
	writeDir()
}

func (SSKWrite) mutableWrite()    {}
func (MDMFWrite) mutableWrite()   {}
func (SSKRead) mutableRead()      {}
func (MDMFRead) mutableRead()     {}
func (SSKVerify) mutableVerify()  {}
func (MDMFVerify) mutableVerify() {}
func (DirWrite) writeDir()        {}
func (DirMDMFWrite) writeDir()    {}
