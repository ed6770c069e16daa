package subnet

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var known = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func someMemory(t *testing.T) *Memory {
	attrs := Attrs{PublicIP: netip.MustParseAddr("192.0.2.1"), NodeID: "alice", BackendType: "udp", BackendData: []byte(`{"weft":1}`)}
	peer := attrs
	peer.NodeID, peer.PublicIP, peer.PublicIPv6 = "", netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")
	return &Memory{
		Source: "http://192.0.2.9:2379/net", Saved: known, Config: []byte("{\n  \"Network\": \"10.5.0.0/16\" }\n"), Revision: 42,
		Own:     Lease{Subnet: mustKey(t, "10.5.34.0-24&fd00:5:22::-64"), Attrs: attrs, Revision: 17},
		Expires: known.Add(time.Hour),
		Peers:   []Lease{{Subnet: mustKey(t, "10.5.35.0-24"), Attrs: peer, Reservation: true, Revision: 18}},
	}
}

func TestMemory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "weft")
	if m, err := LoadMemory(dir); m != nil || err != nil {
		t.Errorf("without a file: %+v, %v", m, err)
	}
	want := someMemory(t)
	if err := want.Save(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadMemory(dir); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("loaded %+v, error %v; want %+v", got, err, want)
	}
	path := filepath.Join(dir, "cluster.json")
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
		t.Errorf("mode %v, error %v; want 0600", st.Mode(), err)
	}
	if err := RemoveState(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("RemoveState leaves it")
	}
}

func TestMemoryDamaged(t *testing.T) {
	for _, content := range []string{
		"", "nonsense", "{}", `{"own":{"subnet":"10.5.34.1-24"}}`,
		`{"own":{"subnet":"10.5.34.0-24","attrs":{"PublicIP":"x"}}}`,
		`{"own":{"subnet":"10.5.34.0-24"},"peers":[{"subnet":"?"}]}`,
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "cluster.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := LoadMemory(dir); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: loaded as %+v, error %v", content, m, err)
		}
	}
}

func TestMemoryUsable(t *testing.T) {
	const source = "http://192.0.2.9:2379/net"
	for _, tt := range []struct {
		name   string
		source string
		after  time.Duration // that it was saved
		change func(*Memory)
		want   string // of the error; "" is none
	}{
		{"at once", source, 0, nil, ""},
		{"until the lease ends", source, time.Hour - 1, nil, ""},
		{"not after that", source, time.Hour, nil, "expired at 2026-11-21T13:00:00Z"},
		{"a reservation stays", source, 24*time.Hour - 1, func(m *Memory) { m.Own.Reservation, m.Expires = true, time.Time{} }, ""},
		{"but the peers' leases do not", source, 24 * time.Hour, func(m *Memory) { m.Own.Reservation, m.Expires = true, time.Time{} }, "expired"},
		{"with an unknown end", source, 0, func(m *Memory) { m.Expires = time.Time{} }, "expired"},
		{"a clock that was put back", source, -time.Second, nil, "clock"},
		{"another etcd", "http://192.0.2.8:2379/net", 0, nil, "another etcd"},
	} {
		m := someMemory(t)
		if tt.change != nil {
			tt.change(m)
		}
		err := m.Usable(tt.source, known.Add(tt.after))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		}
	}
}

func FuzzParseMemory(f *testing.F) {
	f.Add([]byte(`{"source":"x","saved":"2026-11-21T12:00:00Z","config":"{ }","revision":1,"own":{"subnet":"10.5.34.0-24","attrs":{"PublicIP":"192.0.2.1"},"revision":1},"peers":[{"subnet":"10.5.35.0-24"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMemory(data)
		if err != nil {
			return
		}
		if m.Own.Subnet.IsZero() {
			t.Fatalf("accepted without a subnet: %+v", m)
		}
		if err := m.Save(t.TempDir()); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
	})
}
