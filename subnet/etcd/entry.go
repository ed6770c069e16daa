package etcd

import (
	"encoding/json"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/weftnet/weft/subnet"
)

// maxValue bounds the values read, in bytes. A lease has some 200.
const maxValue = 16 << 10

// parseLease reads an entry under subnets/.
func (r *Registry) parseLease(kv *mvccpb.KeyValue) (subnet.Lease, error) {
	s, err := subnet.ParseKey(strings.TrimPrefix(string(kv.Key), r.leasePrefix()))
	if err != nil {
		return subnet.Lease{}, err
	}
	l := subnet.Lease{Subnet: s, Reservation: kv.Lease == 0, Revision: kv.ModRevision}
	if err := unmarshal(kv.Value, &l.Attrs); err != nil {
		return subnet.Lease{}, fmt.Errorf("parse lease %s: %w", s, err)
	}
	return l, nil
}

// parseNode reads an entry under weft/alive/.
func (r *Registry) parseNode(kv *mvccpb.KeyValue) (subnet.Node, error) {
	id := strings.TrimPrefix(string(kv.Key), r.alivePrefix())
	var n subnet.Node
	if err := unmarshal(kv.Value, &n); err != nil {
		return subnet.Node{}, fmt.Errorf("parse live node %q: %w", id, err)
	}
	if n.ID != id {
		return subnet.Node{}, fmt.Errorf("parse live node %q: its value has the ID %q", id, n.ID)
	}
	return n, nil
}

func unmarshal(value []byte, v any) error {
	if len(value) > maxValue {
		return fmt.Errorf("value of %d bytes; at most %d are read", len(value), maxValue)
	}
	return json.Unmarshal(value, v)
}
