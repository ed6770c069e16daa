package assist

import (
	"strings"
	"testing"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
)

// Policies are noticed when they come and when they go, those of the namespace
// that was asked for.
func TestIPsec(t *testing.T) {
	ns, other := labtest.Namespace(t, "ipsec"), labtest.Namespace(t, "clear")
	xfrm := func(in *lab.Namespace, args ...string) {
		t.Helper()
		if out, err := in.Output("ip", append([]string{"xfrm", "policy"}, args...)...); err != nil {
			t.Fatal(err, out)
		}
	}
	add := func(in *lab.Namespace, src, dst, dir string) {
		t.Helper()
		xfrm(in, "add", "src", src+"/24", "dst", dst+"/24", "dir", dir, "tmpl", "src", src, "dst", dst, "proto", "esp", "mode", "tunnel")
	}
	var s *IPsec
	if err := ns.Do(func() (err error) { s, err = OpenIPsec(); return err }); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want := func(policies int) {
		t.Helper()
		if n, err := s.count(); err != nil || n != policies {
			t.Errorf("%d policies, %v; want %d", n, err, policies)
		}
	}
	want(0)
	add(other, "192.0.2.0", "203.0.113.0", "out")
	want(0)
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	add(ns, "192.0.2.0", "203.0.113.0", "out")
	add(ns, "203.0.113.0", "192.0.2.0", "in")
	want(2)
	if err := s.Check(); err == nil || !strings.Contains(err.Error(), "ip xfrm policy shows 2") {
		t.Errorf("checked: %v", err)
	}
	if err := ns.Do(CheckIPsec); err == nil {
		t.Error("not seen at once")
	}
	xfrm(ns, "flush")
	want(0)
}
