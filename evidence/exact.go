package evidence

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The signatures of a zip file's records (PKWARE's APPNOTE 4.3).
const (
	localHeader   = 0x04034b50
	descriptor    = 0x08074b50
	centralHeader = 0x02014b50
	end64         = 0x06064b50
	locator64     = 0x07064b50
	endRecord     = 0x06054b50
)

// exactArchive checks that a zip file consists of its entries, one after the other, and their directory, with no other
// bytes before, between or after them: zip readers disagree on those.
func exactArchive(bundle io.ReaderAt, size int64, files []*zip.File) error {
	at := int64(0)
	read := func(n int64) ([]byte, error) {
		if n < 0 || at+n > size {
			return nil, errors.New("it is cut off")
		}
		b := make([]byte, n)
		_, err := bundle.ReadAt(b, at)
		return b, err
	}
	le16, le32 := binary.LittleEndian.Uint16, binary.LittleEndian.Uint32
	for _, f := range files {
		h, err := read(30)
		if err != nil {
			return err
		}
		names, extras := int64(le16(h[26:])), int64(le16(h[28:]))
		if le32(h) != localHeader || names > maxName || extras > maxName {
			return fmt.Errorf("something stands before %s", f.Name)
		}
		at += 30
		rest, err := read(names + extras)
		if err != nil {
			return err
		}
		at += names + extras
		start, err := f.DataOffset()
		if err != nil {
			return err
		}
		if start != at || string(rest[:names]) != f.Name || le16(h[6:]) != f.Flags || le16(h[8:]) != f.Method ||
			!bytes.Equal(rest[names:], f.Extra) {
			return fmt.Errorf("%s is not as the directory has it", f.Name)
		}
		at += int64(f.CompressedSize64)
		if f.Flags&8 == 0 {
			continue
		}
		width := int64(16) // signature, CRC and two sizes of 4 bytes
		if f.CompressedSize64 >= 1<<32-1 || f.UncompressedSize64 >= 1<<32-1 {
			width = 24
		}
		d, err := read(width)
		if err != nil {
			return err
		}
		if le32(d) != descriptor || le32(d[4:]) != f.CRC32 {
			return fmt.Errorf("something stands behind %s", f.Name)
		}
		at += width
	}
	for _, f := range files {
		h, err := read(46)
		if err != nil {
			return err
		}
		if le32(h) != centralHeader || le16(h[32:]) != 0 { // no comment
			return fmt.Errorf("something stands before the directory, or in it, at %s", f.Name)
		}
		at += 46 + int64(le16(h[28:])) + int64(le16(h[30:]))
	}
	for _, record := range []struct {
		signature uint32
		length    int64
	}{{end64, 56}, {locator64, 20}} {
		if h, err := read(4); err == nil && le32(h) == record.signature {
			at += record.length
		}
	}
	h, err := read(22)
	if err != nil || le32(h) != endRecord || at+22 != size || le16(h[20:]) != 0 {
		return errors.New("something stands behind its directory")
	}
	return nil
}

// maxName is the limit on an entry's name, and on its extra fields, in bytes.
const maxName = 256
