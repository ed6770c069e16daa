package main

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/daemon/options"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
)

// What a run learns is there for the next one, and the file is not written
// without need.
func TestRemember(t *testing.T) {
	withNode(t, func(t *testing.T, n *node, _ *fakeBackend) {
		time.Sleep(time.Second)
		synctest.Wait()
		m, cfg := n.recall()
		if m == nil || cfg == nil {
			t.Fatal("nothing is known")
		}
		v := n.manager.View()
		if m.Own.Subnet != v.Own.Subnet || !m.Expires.Equal(v.Expires) || string(m.Config) != string(n.rawCfg) {
			t.Errorf("saved %+v of %+v", m, v)
		}
		time.Sleep(time.Minute)
		if again, _ := n.recall(); !again.Saved.Equal(m.Saved) {
			t.Error("it was saved again though nothing had changed")
		}
		time.Sleep(time.Hour)
		if again, _ := n.recall(); again.Saved.Equal(m.Saved) {
			t.Error("it was not saved again within an hour")
		}
	})
}

func TestRecallRefuses(t *testing.T) {
	good := func(t *testing.T) *subnet.Memory {
		s, err := subnet.ParseKey("10.5.34.0-24")
		if err != nil {
			t.Fatal(err)
		}
		return &subnet.Memory{
			Source: "http://192.0.2.9:2379/net", Saved: time.Now().Add(-time.Minute), Expires: time.Now().Add(time.Hour),
			Config: []byte(`{"Network":"10.5.0.0/16"}`), Own: subnet.Lease{Subnet: s, Attrs: subnet.Attrs{NodeID: "alice"}},
		}
	}
	for name, tt := range map[string]struct {
		change func(*subnet.Memory)
		says   string // "" is that it is of use
	}{
		"good":                 {func(*subnet.Memory) {}, ""},
		"expired":              {func(m *subnet.Memory) { m.Expires = time.Now() }, "expired"},
		"another etcd":         {func(m *subnet.Memory) { m.Source = "http://192.0.2.8:2379/net" }, "another etcd"},
		"no such backend":      {func(m *subnet.Memory) { m.Config = []byte(`{"Network":"10.5.0.0/16","Backend":{"Type":"wireguard"}}`) }, "wireguard"},
		"another identity":     {func(m *subnet.Memory) { m.Own.Attrs.NodeID = "bob" }, "node bob"},
		"no config":            {func(m *subnet.Memory) { m.Config = []byte(`{}`) }, "Network"},
		"outside this network": {func(m *subnet.Memory) { m.Config = []byte(`{"Network":"10.6.0.0/16"}`) }, "10.5.34.0/24"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			o := &options.Options{StateDir: t.TempDir()}
			o.Etcd.Endpoints, o.Etcd.Prefix = []string{"http://192.0.2.9:2379"}, "/net"
			n := &node{o: o, self: identity{Node: subnet.Node{ID: "alice"}}, log: slog.New(slog.NewTextHandler(&log, nil))}
			if m, _ := n.recall(); m != nil || log.Len() > 0 {
				t.Errorf("without a file: %v, %s", m, &log)
			}
			saved := good(t)
			tt.change(saved)
			if err := saved.Save(o.StateDir); err != nil {
				t.Fatal(err)
			}
			if m, cfg := n.recall(); (m != nil && cfg != nil) != (tt.says == "") || !strings.Contains(log.String(), tt.says) {
				t.Errorf("recalled %v; log: %s", m, &log)
			}
			if err := os.WriteFile(filepath.Join(o.StateDir, "cluster.json"), []byte("?"), 0o600); err != nil {
				t.Fatal(err)
			}
			if m, _ := n.recall(); m != nil || !strings.Contains(log.String(), "damaged") {
				t.Errorf("of a damaged file: %v; log: %s", m, &log)
			}
		})
	}
}

func TestMovedSince(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	m := &subnet.Memory{Own: subnet.Lease{Attrs: subnet.Attrs{PublicIP: v4, PublicIPv6: v6}}}
	for _, tt := range []struct {
		now  tunnel.Underlay
		want bool
	}{
		{tunnel.Underlay{PublicIPv4: v4, PublicIPv6: v6}, false},
		{tunnel.Underlay{PublicIPv4: v4}, true},
		{tunnel.Underlay{PublicIPv4: v4.Next(), PublicIPv6: v6}, true},
	} {
		if got := (&node{under: tt.now}).movedSince(m); got != tt.want {
			t.Errorf("%+v: moved %v, want %v", tt.now, got, tt.want)
		}
	}
}
