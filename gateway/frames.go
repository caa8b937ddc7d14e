package gateway

import "bytes"

// frames splits a stream of server-sent events into the data of its events.
type frames struct {
	line, data []byte
	cr         bool // the last byte was a carriage return
}

// write takes bytes, and calls each with the data of each event that is over with them.
func (f *frames) write(p []byte, each func(data []byte) error) error {
	for len(p) > 0 {
		if f.cr {
			if f.cr = false; p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		end := bytes.IndexAny(p, "\r\n")
		if end < 0 {
			f.line = append(f.line, p...)
			if len(f.line)+len(f.data) > maxRound {
				return errUnreadable
			}
			return nil
		}
		f.line = append(f.line, p[:end]...)
		f.cr = p[end] == '\r'
		p = p[end+1:]
		if len(f.line) > 0 {
			if value, is := bytes.CutPrefix(f.line, []byte("data:")); is {
				f.data = append(append(f.data, bytes.TrimPrefix(value, []byte(" "))...), '\n')
			}
			if f.line = f.line[:0]; len(f.data) > maxRound {
				return errUnreadable
			}
			continue
		}
		if data := bytes.TrimSpace(f.data); len(data) > 0 {
			if err := each(data); err != nil {
				return err
			}
		}
		f.data = f.data[:0]
	}
	return nil
}
