package natskv

import (
	"fmt"
	"strings"
)

const hexDigits = "0123456789ABCDEF"

// subject returns the subject of a key. Each part of the key becomes a token;
// bytes other than letters, digits and '-' are written =HH, because a server
// accepts '*', '>' and spaces in subjects and means something else by them. An
// empty part is "_".
func (c Config) subject(key string) (string, error) {
	var b strings.Builder
	b.Grow(len(c.Bucket) + len(key) + 16)
	b.WriteString("$KV.")
	b.WriteString(c.Bucket)
	for part := range strings.SplitSeq(key, "/") {
		b.WriteByte('.')
		if part == "" {
			b.WriteByte('_')
		}
		for i := range len(part) {
			if ch := part[i]; plain(ch) {
				b.WriteByte(ch)
			} else {
				b.WriteByte('=')
				b.WriteByte(hexDigits[ch>>4])
				b.WriteByte(hexDigits[ch&15])
			}
		}
	}
	if b.Len() > maxSubject {
		return "", fmt.Errorf("key of %d bytes: its subject would be longer than %d bytes", len(key), maxSubject)
	}
	return b.String(), nil
}

// key is the inverse of subject.
func (c Config) key(subject string) (string, error) {
	rest, ok := strings.CutPrefix(subject, "$KV."+c.Bucket+".")
	if !ok {
		return "", fmt.Errorf("subject %q is not of bucket %s", subject, c.Bucket)
	}
	b := make([]byte, 0, len(rest))
	for i := 0; i < len(rest); i++ {
		switch ch := rest[i]; {
		case plain(ch):
			b = append(b, ch)
		case ch == '.':
			b = append(b, '/')
		case ch == '_':
		case ch == '=' && i+2 < len(rest):
			hi, lo := strings.IndexByte(hexDigits, rest[i+1]), strings.IndexByte(hexDigits, rest[i+2])
			if hi < 0 || lo < 0 {
				return "", fmt.Errorf("subject %q: not two hex digits after '='", subject)
			}
			b = append(b, byte(hi<<4|lo))
			i += 2
		default:
			return "", fmt.Errorf("subject %q: %q is not escaped", subject, ch)
		}
	}
	return string(b), nil
}

func plain(ch byte) bool {
	return 'a' <= ch && ch <= 'z' || 'A' <= ch && ch <= 'Z' || '0' <= ch && ch <= '9' || ch == '-'
}
