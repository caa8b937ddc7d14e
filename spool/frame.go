package spool

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
)

// A segment is a sequence of frames, one for each record:
//
//	4 bytes  mark
//	4 bytes  length of the payload, little-endian
//	4 bytes  CRC-32C of the segment's key, the frame's offset and the length
//	8 bytes  the first of SHA-256 of the segment's key, the frame's offset, the length and the payload
//	         the payload
//
// The key is 16 random bytes in the segment's file name, which damage to the content can't change. The offset is in
// bytes from the segment's start. Both checksums cover them, so a payload that looks like a frame is not taken for one.
// After damage, the first checksum rejects a false mark without reading the payload that it announces.
const (
	headerBytes = 20
	// MaxRecord is how many bytes one record may have.
	MaxRecord = 1 << 20
)

var mark = []byte{0xC5, 'k', 's', 'p'}

type key [16]byte

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// framePosition returns the bytes that both checksums cover before the payload: key, offset and length.
func framePosition(k key, at int64, length int) (b [28]byte) {
	copy(b[:], k[:])
	binary.LittleEndian.PutUint64(b[16:], uint64(at))
	binary.LittleEndian.PutUint32(b[24:], uint32(length))
	return b
}

func payloadSum(where [28]byte, payload []byte) uint64 {
	h := sha256.New()
	h.Write(where[:])
	h.Write(payload)
	var sum [sha256.Size]byte
	return binary.LittleEndian.Uint64(h.Sum(sum[:0]))
}

// appendFrame appends the frame of a payload to a buffer; at is the frame's offset in its segment.
func appendFrame(to []byte, k key, at int64, payload []byte) []byte {
	where := framePosition(k, at, len(payload))
	to = append(to, mark...)
	to = binary.LittleEndian.AppendUint32(to, uint32(len(payload)))
	to = binary.LittleEndian.AppendUint32(to, crc32.Checksum(where[:], castagnoli))
	to = binary.LittleEndian.AppendUint64(to, payloadSum(where, payload))
	return append(to, payload...)
}

// readHeader returns the payload length that a frame's header announces, and whether the header is valid.
func readHeader(data []byte, k key, at int64) (length int, ok bool) {
	if len(data) < headerBytes || !bytes.Equal(data[:len(mark)], mark) {
		return 0, false
	}
	length = int(binary.LittleEndian.Uint32(data[4:]))
	if length > MaxRecord {
		return 0, false
	}
	where := framePosition(k, at, length)
	return length, binary.LittleEndian.Uint32(data[8:]) == crc32.Checksum(where[:], castagnoli)
}

// frameAt returns the payload of the frame at the start of data, and whether the frame is valid.
func frameAt(data []byte, k key, at int64) (payload []byte, ok bool) {
	length, ok := readHeader(data, k, at)
	if !ok || len(data) < headerBytes+length {
		return nil, false
	}
	payload = data[headerBytes : headerBytes+length]
	return payload, binary.LittleEndian.Uint64(data[12:]) == payloadSum(framePosition(k, at, length), payload)
}

// damagedRange is a range of a segment that holds no valid record.
type damagedRange struct{ at, bytes int64 }

// scan calls found with every valid record of data, which begins at offset base of its segment, and returns the damaged
// ranges between them. A flipped bit costs one record: the search continues at the next byte.
func scan(data []byte, k key, base int64, found func(at int64, payload []byte)) (holes []damagedRange) {
	for i := 0; i < len(data); {
		if payload, ok := frameAt(data[i:], k, base+int64(i)); ok {
			found(base+int64(i), payload)
			i += headerBytes + len(payload)
			continue
		}
		next := i + 1
		for next < len(data) {
			m := bytes.Index(data[next:], mark)
			if m < 0 {
				next = len(data)
				break
			}
			next += m
			if _, ok := frameAt(data[next:], k, base+int64(next)); ok {
				break
			}
			next++
		}
		holes = append(holes, damagedRange{base + int64(i), int64(next - i)})
		i = next
	}
	return holes
}

// torn reports whether a damaged range at a segment's end is a write that was cut short: a valid header, or the start
// of one, and less payload than it announces. Such a record was never acknowledged.
func torn(rest []byte, k key, at int64) bool {
	if len(rest) < headerBytes {
		n := min(len(rest), len(mark))
		return bytes.Equal(rest[:n], mark[:n])
	}
	length, ok := readHeader(rest, k, at)
	return ok && len(rest) < headerBytes+length
}
