package spool

import (
	"bytes"
	"testing"
)

// FuzzRecovery writes records, truncates the file anywhere, flips any one bit, and scans the rest: every record that is
// still whole comes back, at its place and in order, and nothing else does.
func FuzzRecovery(f *testing.F) {
	k := key{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	f.Add([]byte("one\x00two\x00three"), uint32(30), uint32(100))
	f.Add([]byte("one\x00two"), uint32(1<<31), uint32(3))
	f.Add(bytes.Repeat([]byte{0xC5, 'k', 's', 'p', 0}, 40), uint32(1<<31), uint32(8*21))
	// A payload that is a valid frame of this segment, at another offset.
	f.Add(appendFrame(nil, k, 7, []byte("made up")), uint32(1<<31), uint32(16))
	f.Add(append(appendFrame(nil, key{}, 0, []byte("of another key")), 0, 1), uint32(1<<31), uint32(9))
	f.Fuzz(func(t *testing.T, raw []byte, cut, flip uint32) {
		type written struct {
			at      int64
			payload []byte
		}
		var file []byte
		var records []written
		for _, payload := range bytes.SplitAfter(raw, []byte{0}) {
			if len(payload) == 0 {
				continue
			}
			records = append(records, written{int64(len(file)), payload})
			file = appendFrame(file, k, int64(len(file)), payload)
		}
		whole := len(file)
		file = file[:min(len(file), int(cut%uint32(whole+1)))]
		if cut >= 1<<31 {
			file = file[:min(whole, cap(file))]
		}
		touched := int64(-1)
		if len(file) > 0 {
			bit := int(flip) % (8 * len(file))
			touched = int64(bit / 8)
			file[touched] ^= 1 << (bit % 8)
		}
		var want []written
		for _, r := range records {
			end := r.at + int64(headerBytes+len(r.payload))
			if end <= int64(len(file)) && (touched < r.at || touched >= end) {
				want = append(want, r)
			}
		}
		i := 0
		covered := int64(0)
		holes := scan(file, k, 0, func(at int64, payload []byte) {
			if i >= len(want) || want[i].at != at || !bytes.Equal(want[i].payload, payload) {
				t.Fatalf("record %d at %d is %q: made up, or out of order", i, at, payload)
			}
			covered += int64(headerBytes + len(payload))
			i++
		})
		if i != len(want) {
			t.Fatalf("%d records come back of %d that are whole", i, len(want))
		}
		for _, h := range holes {
			covered += h.bytes
		}
		if covered != int64(len(file)) {
			t.Fatalf("records and holes cover %d bytes of %d", covered, len(file))
		}
	})
}
