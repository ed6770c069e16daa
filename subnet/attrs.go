package subnet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
)

// attrsJSON is Attrs as it stands in etcd. Order and omissions are those of
// flannel's pkg/lease, so that an unchanged lease is unchanged byte for byte.
type attrsJSON struct {
	PublicIP      *string
	PublicIPv6    *string
	NodeID        string          `json:",omitempty"`
	BackendType   string          `json:",omitempty"`
	BackendData   json.RawMessage `json:",omitempty"`
	BackendV6Data json.RawMessage `json:",omitempty"`
}

// noIPv4 stands for "none" in PublicIP: flannel reads neither null nor "".
const noIPv4 = "0.0.0.0"

// MarshalJSON writes the value of a lease as flannel reads it.
func (a Attrs) MarshalJSON() ([]byte, error) {
	v4 := noIPv4
	if a.PublicIP.IsValid() {
		if !a.PublicIP.Is4() {
			return nil, fmt.Errorf("PublicIP %s is not an IPv4 address", a.PublicIP)
		}
		v4 = a.PublicIP.String()
	}
	j := attrsJSON{
		PublicIP:      &v4,
		NodeID:        a.NodeID,
		BackendType:   a.BackendType,
		BackendData:   a.BackendData,
		BackendV6Data: a.BackendV6Data,
	}
	if a.PublicIPv6.IsValid() {
		if !a.PublicIPv6.Is6() || a.PublicIPv6.Is4In6() || a.PublicIPv6.Zone() != "" {
			return nil, fmt.Errorf("PublicIPv6 %s is not an IPv6 address without a zone", a.PublicIPv6)
		}
		v6 := a.PublicIPv6.String()
		j.PublicIPv6 = &v6
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads the value of a lease written by any version of flannel
// or weft. A missing, null, empty or all-zero address is none.
func (a *Attrs) UnmarshalJSON(b []byte) error {
	if bytes.Equal(bytes.TrimSpace(b), []byte("null")) {
		return errors.New("null is not a lease; want a JSON object with PublicIP")
	}
	var j attrsJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	v4, err := parsePublicIP(j.PublicIP)
	if err != nil || v4.IsValid() && !v4.Unmap().Is4() {
		return fmt.Errorf("PublicIP %q is not an IPv4 address", *j.PublicIP)
	}
	v6, err := parsePublicIP(j.PublicIPv6)
	if err != nil || v6.Is4() || v6.Is4In6() {
		return fmt.Errorf("PublicIPv6 %q is not an IPv6 address", *j.PublicIPv6)
	}
	*a = Attrs{
		PublicIP:      v4.Unmap(),
		PublicIPv6:    v6,
		NodeID:        j.NodeID,
		BackendType:   j.BackendType,
		BackendData:   notNull(j.BackendData),
		BackendV6Data: notNull(j.BackendV6Data),
	}
	return nil
}

func parsePublicIP(s *string) (netip.Addr, error) {
	if s == nil || *s == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(*s)
	switch {
	case err != nil:
		return netip.Addr{}, err
	case a.Zone() != "":
		return netip.Addr{}, errors.New("has a zone")
	case a.Unmap().IsUnspecified():
		return netip.Addr{}, nil
	}
	return a, nil
}

// notNull makes a JSON null and a missing value the same.
func notNull(m json.RawMessage) json.RawMessage {
	if len(m) == 0 || bytes.Equal(m, []byte("null")) {
		return nil
	}
	return m
}

// Equal tells whether a and b are written to etcd as the same value.
func (a Attrs) Equal(b Attrs) bool {
	return a.PublicIP == b.PublicIP && a.PublicIPv6 == b.PublicIPv6 &&
		a.NodeID == b.NodeID && a.BackendType == b.BackendType &&
		equalJSON(a.BackendData, b.BackendData) && equalJSON(a.BackendV6Data, b.BackendV6Data)
}

// equalJSON compares what json.Marshal would write.
func equalJSON(a, b json.RawMessage) bool {
	a, b = notNull(a), notNull(b)
	if bytes.Equal(a, b) {
		return true
	}
	wa, errA := json.Marshal(a)
	wb, errB := json.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(wa, wb)
}
