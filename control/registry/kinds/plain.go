package kinds

import "strings"

// What most objects say is plainly right: letters, digits and dashes. Seeing that
// takes a hundredth of what the regular expressions of the library do, which are asked
// about the rest and word what is wrong. The rules are those of
// https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set

const maxPlain = 63

// plainName tells whether text is certainly a name as labels have it after the
// slash: up to 63 letters, digits, dashes, dots and underscores, with a letter
// or digit at both ends.
func plainName(text string) bool {
	if len(text) == 0 || len(text) > maxPlain {
		return false
	}
	for i := range len(text) {
		c := text[i]
		if letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'; letter {
			continue
		}
		if c != '-' && c != '.' && c != '_' || i == 0 || i == len(text)-1 {
			return false
		}
	}
	return true
}

// plainDomain tells whether text is certainly the name of a DNS subdomain: of
// those, the ones of 63 characters at most.
func plainDomain(text string) bool {
	if !plainName(text) {
		return false
	}
	last := byte('.')
	for i := range len(text) {
		c := text[i]
		dash, dot := c == '-', c == '.'
		if c == '_' || c >= 'A' && c <= 'Z' || (dash || dot) && last == '.' || dot && last == '-' {
			return false
		}
		last = c
	}
	return true
}

// plainKey tells whether text is certainly a qualified name: of a label, a
// resource, a condition.
func plainKey(text string) bool {
	domain, name, qualified := strings.Cut(text, "/")
	if !qualified {
		return plainName(text)
	}
	return plainDomain(domain) && plainName(name)
}

// PlainLabels tells whether labels are certainly valid.
func PlainLabels(labels map[string]string) bool {
	for key, value := range labels {
		if !plainKey(key) || value != "" && !plainName(value) {
			return false
		}
	}
	return true
}
