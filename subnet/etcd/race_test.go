package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/subnet"
)

// TestRegistrationRace registers many nodes at once, in a network with room
// and in one that they nearly fill. Each takes a random subnet that its
// snapshot shows as free, sometimes one of another length.
func TestRegistrationRace(t *testing.T) {
	for _, tt := range []struct{ nodes, subnets int }{{200, 254}, {250, 254}} {
		t.Run(fmt.Sprintf("%d of %d", tt.nodes, tt.subnets), func(t *testing.T) {
			prefix := newPrefix()
			ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
			defer cancel()
			var wg sync.WaitGroup
			for i := range tt.nodes {
				r := open(t, Config{Prefix: prefix})
				wg.Go(func() {
					if err := register(ctx, r, fmt.Sprint(i), tt.subnets); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()

			snap, err := open(t, Config{Prefix: prefix}).Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			owners := map[string]bool{}
			for i, l := range snap.Leases {
				owners[l.Attrs.NodeID] = true
				for _, o := range snap.Leases[:i] {
					if l.Subnet.Overlaps(o.Subnet) {
						t.Errorf("%s of node %s overlaps %s of node %s", l.Subnet, l.Attrs.NodeID, o.Subnet, o.Attrs.NodeID)
					}
				}
			}
			if len(snap.Leases) != tt.nodes || len(owners) != tt.nodes {
				t.Errorf("%d leases of %d nodes, want %d of each", len(snap.Leases), len(owners), tt.nodes)
			}
		})
	}
}

// register tries until it succeeds. Of all who try at one time one succeeds, so
// that the pauses must grow until few do.
func register(ctx context.Context, r *Registry, id string, subnets int) error {
	for pause := 20 * time.Millisecond; ; pause = min(pause*3/2, 5*time.Second) {
		snap, err := r.Snapshot(ctx)
		if err != nil {
			return err
		}
		s := freeSubnet(snap, subnets)
		_, err = r.Create(ctx, s, subnet.Attrs{NodeID: id}, time.Hour, snap.Revision)
		if !errors.Is(err, subnet.ErrChanged) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("node %s: %w", id, ctx.Err())
		case <-time.After(rand.N(pause)):
		}
	}
}

// freeSubnet picks one of 10.5.1.0/24 to 10.5.<subnets>.0/24, and if that
// leaves room, now and then only half of one.
func freeSubnet(snap *subnet.Snapshot, subnets int) subnet.Subnet {
	for {
		bits := 24
		if rand.N(4) == 0 {
			bits = 25
		}
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, byte(1 + rand.N(subnets)), 0}), bits)
		s := subnet.Subnet{IPv4: p}
		free := true
		for _, l := range snap.Leases {
			free = free && !l.Subnet.Overlaps(s)
		}
		if free {
			return s
		}
	}
}
