package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/subnet/etcd"
	"github.com/weftnet/weft/subnet/etcd/embedded"
)

// startEtcd runs an etcd until the test ends and returns its endpoint.
func startEtcd(t *testing.T, cfg embedded.Config) string {
	t.Helper()
	cfg.DataDir = t.TempDir()
	m, err := embedded.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m.Endpoints()[0]
}

func TestConfigCommands(t *testing.T) {
	flag := "--etcd-endpoints=" + startEtcd(t, embedded.Config{ListenClient: []string{"http://127.0.0.1:0"}, ListenPeer: []string{"http://127.0.0.1:0"}})

	status, stdout, stderr := run(t, "config", "get", flag)
	if status != 1 || stdout != "" || stderr != "weftd: read the network config at /coreos.com/network/config: no network config in etcd; write one with `weftd config set`\n" {
		t.Errorf("get before set: status %d, stdout %q, stderr %q", status, stdout, stderr)
	}

	const text = `{ "Network": "10.5.0.0/16", "Backend": {"Type": "udp", "Port": 7890}, "SubnetLength": 25 }`
	const full = `{
  "Network": "10.5.0.0/16",
  "SubnetLen": 24,
  "SubnetMin": "10.5.1.0",
  "SubnetMax": "10.5.255.0",
  "EnableIPv4": true,
  "EnableIPv6": false,
  "EnableNFTables": false,
  "Backend": {
    "Type": "udp",
    "Port": 7890
  }
}
`
	status, stdout, stderr = run(t, "config", "set", text, flag)
	if status != 0 || stdout != "Written. With its defaults the network config is\n"+full+"Running daemons take it when they are restarted.\n" {
		t.Errorf("set: status %d, stdout\n%s", status, stdout)
	}
	if stderr != "weftd: warning: field \"SubnetLength\" is unknown and has no effect\n" {
		t.Errorf("set: stderr %q", stderr)
	}
	wantConfig(t, flag, text+"\n")
	status, stdout, stderr = run(t, "config", "get", "--effective", flag)
	if status != 0 || stdout != full || stderr != "" {
		t.Errorf("get --effective: status %d, stderr %q, stdout\n%s", status, stderr, stdout)
	}

	// A backend that weft cannot run, or not so, is written on request only.
	for backend, problem := range map[string]string{
		`{"Type":"ipip"}`:              `Backend.Type is "ipip", but weft has udp, vxlan and host-gw only`,
		`{"Type":"udp","Port":100000}`: "Backend.Port is 100000: a UDP port is from 1 to 65535 (flannel's default is 8285)",
	} {
		config := `{"Network":"10.5.0.0/16","Backend":` + backend + `}`
		status, _, stderr = run(t, "config", "set", config, flag, "--etcd-prefix=/other")
		if want := "weftd: " + problem + "; --force writes it all the same\n"; status != 1 || stderr != want {
			t.Errorf("set %s: status %d, stderr %q, want %q", backend, status, stderr, want)
		}
		status, _, stderr = run(t, "config", "set", config, flag, "--etcd-prefix=/other", "--force")
		if want := "weftd: warning: " + problem + "\n"; status != 0 || stderr != want {
			t.Errorf("set %s --force: status %d, stderr %q, want %q", backend, status, stderr, want)
		}
	}

	// A bad config is not written.
	status, _, stderr = run(t, "config", "set", `{"Network": "10.5.0.0/16", "SubnetLen": 40}`, flag)
	if status != 1 || !strings.HasPrefix(stderr, "weftd: parse network config: SubnetLen 40: must be 18 to 30") {
		t.Errorf("set a bad one: status %d, stderr %q", status, stderr)
	}
	wantConfig(t, flag, text+"\n")

	// From a file, which keeps its line breaks.
	file := filepath.Join(t.TempDir(), "net.json")
	if err := os.WriteFile(file, []byte("{\n\"Network\":\"10.5.0.0/17\"}\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr = run(t, "config", "set", file, flag); status != 0 || stderr != "" {
		t.Errorf("set from a file: status %d, stderr %q", status, stderr)
	}
	wantConfig(t, flag, "{\n\"Network\":\"10.5.0.0/17\"}\n")

	// With a prefix of its own there is another network.
	if status, _, _ = run(t, "config", "get", "--etcd-prefix=/third", flag); status != 1 {
		t.Errorf("get below another prefix: status %d", status)
	}
}

func wantConfig(t *testing.T, flag, want string) {
	t.Helper()
	status, stdout, stderr := run(t, "config", "get", flag)
	if status != 0 || stdout != want || stderr != "" {
		t.Errorf("config get: status %d, stdout %q, stderr %q; want %q", status, stdout, stderr, want)
	}
}

// writeLease writes a lease, below the default prefix.
func writeLease(t *testing.T, endpoint, prefix string, a subnet.Attrs) {
	t.Helper()
	r, err := etcd.New(etcd.Config{Endpoints: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s, err := r.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Create(t.Context(), subnet.Subnet{IPv4: netip.MustParsePrefix(prefix)}, a, time.Hour, s.Revision); err != nil {
		t.Fatal(err)
	}
}

func TestLeaseListAndConfigWithLeases(t *testing.T) {
	endpoint := startEtcd(t, embedded.Config{ListenClient: []string{"http://127.0.0.1:0"}, ListenPeer: []string{"http://127.0.0.1:0"}})
	flag := "--etcd-endpoints=" + endpoint
	writeLease(t, endpoint, "10.5.34.0/24", subnet.Attrs{PublicIP: netip.MustParseAddr("192.0.2.10"), NodeID: "b7", BackendType: "udp"})
	writeLease(t, endpoint, "10.5.7.0/24", subnet.Attrs{PublicIP: netip.MustParseAddr("192.0.2.11"), BackendType: "vxlan"})

	status, stdout, stderr := run(t, "lease", "list", flag)
	want := "" +
		"SUBNET        OWNER       BACKEND  KIND   NODE ID  DAEMON\n" +
		"10.5.7.0/24   192.0.2.11  vxlan    lease  -        ?\n" +
		"10.5.34.0/24  192.0.2.10  udp      lease  b7       not running\n"
	if status != 0 || stdout != want || stderr != "" {
		t.Errorf("list: status %d, stderr %q, stdout\n%s\nwant\n%s", status, stderr, stdout, want)
	}

	status, stdout, stderr = run(t, "config", "set", `{"Network":"10.5.32.0/20"}`, flag)
	if status != 1 || stdout != "" || stderr != "weftd: not written, since the new network does not hold every subnet that is leased: 10.5.7.0/24 of 192.0.2.11; "+
		"stop those nodes and let their leases expire, or write it all the same with --force\n" {
		t.Errorf("set another network: status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	if status, _, _ = run(t, "config", "get", flag); status != 1 {
		t.Error("the refused config was written")
	}
	if status, _, stderr = run(t, "config", "set", "--force", `{"Network":"10.5.32.0/20"}`, flag); status != 0 {
		t.Errorf("set --force: status %d, stderr %q", status, stderr)
	}
	wantConfig(t, flag, `{"Network":"10.5.32.0/20"}`+"\n")
}

// The files that `weftd etcd init` makes open an etcd to those who have them.
func TestEtcdInitCommand(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	status, stdout, stderr := run(t, "etcd", "init", "etcd.example", "192.0.2.1", "--dir", dir)
	if status != 0 || stderr != "" || !strings.Contains(stdout, "weftd --etcd-endpoints=https://etcd.example:2379 \\\n") {
		t.Fatalf("status %d, stderr %q, stdout\n%s", status, stderr, stdout)
	}
	printed := map[string]string{} // by flag
	for word := range strings.FieldsSeq(stdout) {
		if name, text, ok := strings.Cut(word, "="); ok {
			printed[name] = text
		}
	}
	endpoint := startEtcd(t, embedded.Config{
		ListenClient: []string{"https://127.0.0.1:0"}, ListenPeer: []string{"https://127.0.0.1:0"},
		CAFile: printed["--etcd-embedded-ca-file"], CertFile: printed["--etcd-embedded-cert-file"], KeyFile: printed["--etcd-embedded-key-file"],
	})
	flags := []string{"--etcd-endpoints=" + endpoint}
	for _, name := range []string{"--etcd-cafile", "--etcd-certfile", "--etcd-keyfile"} {
		flags = append(flags, name+"="+printed[name])
	}
	if status, _, stderr := run(t, append([]string{"config", "set", `{"Network":"10.5.0.0/16"}`}, flags...)...); status != 0 {
		t.Errorf("with a client's certificate: status %d, stderr %q", status, stderr)
	}
	if status, _, stderr := run(t, "config", "get", flags[0], flags[1]); status != 1 || !strings.Contains(stderr, "--etcd-certfile") {
		t.Errorf("without one: status %d, stderr %q", status, stderr)
	}
}

// memoryStore is a config with somebody else who writes it too.
type memoryStore struct {
	config []byte
	leases []subnet.Lease
	meddle func(*memoryStore) // runs between reading and writing
}

func (s *memoryStore) Config(context.Context) ([]byte, error) {
	if s.config == nil {
		return nil, subnet.ErrNoConfig
	}
	return s.config, nil
}

func (s *memoryStore) Snapshot(context.Context) (*subnet.Snapshot, error) {
	return &subnet.Snapshot{Leases: s.leases}, nil
}

func (s *memoryStore) SetConfig(_ context.Context, old, value []byte) error {
	if s.meddle != nil {
		s.meddle(s)
	}
	if !bytes.Equal(s.config, old) {
		return subnet.ErrChanged
	}
	s.config = value
	return nil
}

func set(t *testing.T, s *memoryStore, text string) error {
	t.Helper()
	config, err := subnet.ParseConfig([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return setConfig(t.Context(), s, config, []byte(text), false)
}

func TestSetConfigTogetherWithSomebodyElse(t *testing.T) {
	theirs := []byte(`{"Network":"10.9.0.0/16"}`)
	s := &memoryStore{meddle: func(s *memoryStore) { s.config = theirs }}
	err := set(t, s, `{"Network":"10.5.0.0/16"}`)
	if !errors.Is(err, subnet.ErrChanged) || !strings.Contains(err.Error(), "somebody else writes the network config") {
		t.Errorf("error %v", err)
	}
	if !bytes.Equal(s.config, theirs) {
		t.Errorf("the config is now %s", s.config)
	}
}

// The message names ten leases and counts the rest; a broken config can be
// replaced; dual stack may be added, but not taken away.
func TestSetConfigOutside(t *testing.T) {
	var many []subnet.Lease
	for i := range 12 {
		many = append(many, subnet.Lease{Subnet: subnet.Subnet{IPv4: netip.MustParsePrefix(fmt.Sprintf("10.5.%d.0/24", i))}})
	}
	dual := []subnet.Lease{{
		Subnet: subnet.Subnet{IPv4: netip.MustParsePrefix("10.5.1.0/24"), IPv6: netip.MustParsePrefix("fd00:5:0:1::/64")},
		Attrs:  subnet.Attrs{PublicIPv6: netip.MustParseAddr("2001:db8::1")},
	}}
	tests := []struct {
		name   string
		leases []subnet.Lease
		config string
		want   string // part of the error, "" for none
	}{
		{"a broken config is replaced", nil, `{"Network":"10.6.0.0/16"}`, ""},
		{"all inside", many, `{"Network":"10.4.0.0/15"}`, ""},
		{"dual stack is added", many, `{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48"}`, ""},
		{"many outside", many, `{"Network":"10.6.0.0/16"}`, ": 10.5.0.0/24 of an unknown node, 10.5.1.0/24 of an unknown node, "},
		{"two not named", many, `{"Network":"10.6.0.0/16"}`, "10.5.9.0/24 of an unknown node and 2 more; "},
		{"dual stack is taken away", dual, `{"Network":"10.5.0.0/16"}`, ": 10.5.1.0/24 fd00:5:0:1::/64 of 2001:db8::1; "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &memoryStore{config: []byte("broken"), leases: tt.leases}
			err := set(t, s, tt.config)
			if tt.want == "" {
				if err != nil || string(s.config) != tt.config {
					t.Errorf("error %v, config %s", err, s.config)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
			if string(s.config) != "broken" {
				t.Errorf("the config is now %s", s.config)
			}
		})
	}
}

func TestReadConfig(t *testing.T) {
	big := strings.Repeat(" ", maxConfig+1)
	if raw, err := readConfig("-", strings.NewReader("{}")); err != nil || string(raw) != "{}" {
		t.Errorf("from standard input: %q, %v", raw, err)
	}
	if raw, err := readConfig(" \n{}", nil); err != nil || string(raw) != " \n{}" {
		t.Errorf("from the command line: %q, %v", raw, err)
	}
	if raw, err := readConfig("-", strings.NewReader(big)); err == nil || !strings.Contains(err.Error(), "larger than 1048576 bytes") {
		t.Errorf("too big: %d bytes, %v", len(raw), err)
	}
}
