package hostlocal

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

func TestList(t *testing.T) {
	dir := t.TempDir()
	if all, err := List(dir, "mynet"); err != nil || len(all) != 0 {
		t.Errorf("no folder lists %v, error %v", all, err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "mynet", "10.5.1.9"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"10.5.1.2": "c1\r\neth0", "10.5.1.3": "c1\r\neth1\r\n", "fd00::2": "c2\r\neth0", "10.5.1.4": "old",
		"10.5.1.5": "", "10.5.1.6": "../x\r\neth0", "10.5.1.7": "c1\r\n../x", "last_reserved_ip.0": "10.5.1.3", "lock": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, "mynet", name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	addr := netip.MustParseAddr
	want := []Reservation{{addr("10.5.1.2"), "c1", "eth0"}, {addr("10.5.1.3"), "c1", "eth1"}, {addr("10.5.1.4"), "old", ""}, {addr("fd00::2"), "c2", "eth0"}}
	if all, err := List(dir, "mynet"); err != nil || !reflect.DeepEqual(all, want) {
		t.Errorf("listed %v, error %v; want %v", all, err, want)
	}
	if _, err := List(dir, "../mynet"); err == nil {
		t.Error("a network named ../mynet was listed")
	}
}

func TestRemoveEmpty(t *testing.T) {
	dir := t.TempDir()
	if err := RemoveEmpty(dir, "mynet"); err != nil {
		t.Errorf("no folder: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "mynet"), 0o755); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	for name, content := range map[string]string{"10.5.1.2": "", "10.5.1.3": "", "10.5.1.4": "c1\r\neth0", "lock": ""} {
		path := filepath.Join(dir, "mynet", name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if name != "10.5.1.3" { // which is being written
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := RemoveEmpty(dir, "mynet"); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "mynet", "*"))
	if err != nil || len(left) != 3 || filepath.Base(left[0]) != "10.5.1.3" || filepath.Base(left[1]) != "10.5.1.4" {
		t.Errorf("left %q, error %v", left, err)
	}
}

func TestCapacity(t *testing.T) {
	for prefix, want := range map[string]int{
		"10.5.1.0/24": 253, "10.5.1.0/30": 1, "10.5.1.0/31": 0, "10.5.1.0/32": 0, "0.0.0.0/0": 1<<31 - 1, "fd00::/64": 1<<31 - 1, "fd00::/126": 2,
	} {
		if got := Capacity(netip.MustParsePrefix(prefix)); got != want {
			t.Errorf("%s: %d, want %d", prefix, got, want)
		}
	}
}

func TestReleaseRange(t *testing.T) {
	for addr, want := range map[string]string{"10.5.1.7": "10.5.1.4/30", "fd00::7": "fd00::4/126"} {
		if got := ReleaseRange(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("c1\r\neth0")
	f.Add("c1")
	f.Add("\r\n\x00")
	f.Fuzz(func(t *testing.T, content string) {
		addr := netip.MustParseAddr("10.5.1.2")
		r, ok := parse(addr, content)
		if !ok {
			if r != (Reservation{}) {
				t.Fatalf("got %+v with false", r)
			}
			return
		}
		if again, ok := parse(addr, r.ContainerID+"\r\n"+r.IfName); !ok || again != r {
			t.Fatalf("%q is %+v, written and read again %+v", content, r, again)
		}
	})
}
