package netevent

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab/labtest"
)

func TestAttribute(t *testing.T) {
	const ( // little-endian
		one   = "\x05\x00\x01\x00a\x00\x00\x00" // padded
		two   = "\x08\x00\x02\x00bcde"
		empty = "\x04\x00\x03\x00"
	)
	for _, c := range []struct {
		in   string
		typ  uint16
		want string
	}{
		{one + two, 1, "a"},
		{one + two, 2, "bcde"},
		{one + two, 9, ""},
		{empty + two, 3, ""},
		{empty + two, 2, "bcde"},
		{"", 1, ""},
		{one[:5], 1, "a"},           // the last one needs no padding
		{one[:4], 1, ""},            // longer than what is there
		{"\x03\x00\x01\x00", 1, ""}, // shorter than itself
		{"\x00\x00\x00\x00" + one, 1, ""},
	} {
		if got := string(Attribute([]byte(c.in), c.typ)); got != c.want {
			t.Errorf("%q, %d: got %q, want %q", c.in, c.typ, got, c.want)
		}
	}
}

func FuzzAttribute(f *testing.F) {
	f.Add([]byte("\x05\x00\x01\x00a\x00\x00\x00\x08\x00\x02\x00bcde"), uint16(2))
	f.Add([]byte("\x05\x00\x01\x00a"), uint16(2))
	f.Fuzz(func(t *testing.T, b []byte, typ uint16) {
		if got := Attribute(b, typ); len(got)+unix.SizeofNlAttr > max(len(b), unix.SizeofNlAttr) {
			t.Errorf("a value of %d bytes in %d", len(got), len(b))
		}
	})
}

func TestEventsLossAndClose(t *testing.T) {
	ns := labtest.Namespace(t, "host")
	var s *Subscription
	if err := ns.Do(func() (err error) { s, err = Subscribe(); return }); err != nil {
		t.Fatal(err)
	}
	if err := ns.AddAddr("lo", netip.MustParsePrefix("192.0.2.1/32")); err != nil {
		t.Fatal(err)
	}
	var seen []uint16
	for seen == nil || seen[len(seen)-1] != unix.RTM_NEWADDR {
		messages, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			seen = append(seen, m.Header.Type)
		}
	}

	// Nobody reads, so that a small buffer overflows for certain.
	raw, err := s.file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4096) })
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		if err := ns.AddAddr("lo", netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/32", 2+i))); err != nil {
			t.Fatal(err)
		}
	}
	lost := false
	for !lost {
		_, err := s.Next()
		if lost = errors.Is(err, ErrLost); err != nil && !lost {
			t.Fatal(err)
		}
	}
	if _, err := s.Next(); err != nil {
		t.Errorf("after the loss: %v", err)
	}

	closed := make(chan error)
	go func() {
		for {
			if _, err := s.Next(); err != nil {
				closed <- err
				return
			}
		}
	}()
	time.Sleep(10 * time.Millisecond) // likely to be waiting by now; right in either case
	s.Close()
	if err := <-closed; !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
