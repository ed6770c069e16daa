package options

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Secret is a text that is not for logs: every common way of printing it
// hides it. Convert it to a string to use it.
type Secret string

const hidden = "(hidden)"

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// GoString implements fmt.GoStringer, for %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// MarshalText implements encoding.TextMarshaler, for JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// The parsers below are given to add. Their errors say what is allowed; name
// and value of the flag are put before them.

func parseText(text string) (string, error) { return text, nil }

func parseSecret(text string) (Secret, error) { return Secret(text), nil }

func parseBool(text string) (bool, error) {
	v, err := strconv.ParseBool(text)
	if err != nil {
		return false, errors.New("must be true or false")
	}
	return v, nil
}

// parsePath takes the name of a file that weft cannot do without.
func parsePath(text string) (string, error) {
	if text == "" {
		return "", errors.New("must be the name of a file, or left out for the default")
	}
	return text, nil
}

func parseInt(min, max int) func(string) (int, error) {
	return func(text string) (int, error) {
		v, err := strconv.Atoi(text)
		if err != nil || v < min || v > max {
			return 0, fmt.Errorf("must be a whole number from %d to %d", min, max)
		}
		return v, nil
	}
}

// parseCount takes a number of units, for instance minutes.
func parseCount(min, max int, unit time.Duration, units string) func(string) (time.Duration, error) {
	return func(text string) (time.Duration, error) {
		v, err := strconv.Atoi(text)
		if err != nil || v < min || v > max {
			return 0, fmt.Errorf("must be a whole number of %s from %d to %d", units, min, max)
		}
		return time.Duration(v) * unit, nil
	}
}

// parseAddr takes an address of either family, or nothing.
func parseAddr(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, errors.New("must be an IP address, for instance 192.0.2.1 or 2001:db8::1")
	}
	return addr.Unmap(), nil
}

// parseNodeAddr takes an address that other nodes can send to, or nothing.
func parseNodeAddr(text string) (netip.Addr, error) {
	addr, err := parseAddr(text)
	if err == nil && addr.IsValid() && (addr.IsUnspecified() || addr.IsMulticast()) {
		err = errors.New("must be the address of one host")
	}
	return addr, err
}

func parseNodeAddr4(text string) (netip.Addr, error) {
	addr, err := parseNodeAddr(text)
	if err == nil && addr.IsValid() && !addr.Is4() {
		err = errors.New("must be an IPv4 address; for IPv6 there is --public-ipv6")
	}
	return addr, err
}

func parseNodeAddr6(text string) (netip.Addr, error) {
	addr, err := parseNodeAddr(text)
	if err == nil && addr.IsValid() && !addr.Is6() {
		err = errors.New("must be an IPv6 address; for IPv4 there is --public-ip")
	}
	return addr, err
}

func parseListenAddr(text string) (netip.Addr, error) {
	addr, err := parseAddr(text)
	if err == nil && !addr.IsValid() {
		err = errors.New("must be an IP address; 0.0.0.0 listens on all of IPv4, :: on all")
	}
	return addr, err
}

// parseNames takes names parted by commas. Empty ones are left out, so that
// a unit file's "--iface=${IFACE}" means the default where IFACE is empty.
func parseNames(text string) ([]string, error) {
	var names []string
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names, nil
}

// parseRegexp takes one expression. It is not split at commas, which have a
// meaning inside expressions.
func parseRegexp(text string) ([]*regexp.Regexp, error) {
	if text == "" {
		return nil, nil
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("must be a regular expression (Go syntax): %w", err)
	}
	return []*regexp.Regexp{re}, nil
}

func parseOneOf[T ~string](allowed ...T) func(string) (T, error) {
	return func(text string) (T, error) {
		names := make([]string, len(allowed))
		for i, a := range allowed {
			if text == string(a) {
				return a, nil
			}
			names[i] = string(a)
		}
		return "", fmt.Errorf("must be one of %s", strings.Join(names, ", "))
	}
}

func parseLevel(text string) (slog.Level, error) {
	switch text {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, errors.New("must be one of debug, info, warn, error")
}
