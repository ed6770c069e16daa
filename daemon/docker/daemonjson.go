package docker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weftnet/weft/subnet/envfile"
)

// MergeJSON puts the options for the subnet that f names into a daemon.json;
// no content stands for a file that is not there. Other keys stay as they are
// and where they are. It returns what it changed, line by line: nothing where
// all was as it should be.
//
// A key that keeps docker0 off the leased subnet and was hardly meant for it is
// an error that names all such keys. A bip of the cluster network is no such
// key: it is that of an earlier lease.
func MergeJSON(existing []byte, f envfile.File) (merged []byte, changes []string, err error) {
	doc, err := parseObject(existing)
	if err != nil {
		return nil, nil, err
	}
	if conflicts := doc.conflicts(f); len(conflicts) > 0 {
		return nil, nil, errors.New(strings.Join(conflicts, "; "))
	}
	o := OptionsFor(f)
	doc.set("bip", strconv.Quote(o.BIP.String()), &changes)
	if o.FixedCIDRv6.IsValid() {
		doc.set("ipv6", "true", &changes)
		doc.set("fixed-cidr-v6", strconv.Quote(o.FixedCIDRv6.String()), &changes)
	}
	doc.set("mtu", strconv.Itoa(o.MTU), &changes)
	doc.set("ip-masq", strconv.FormatBool(o.IPMasq), &changes)
	if doc.text("firewall-backend") == "nftables" && !doc.has("allow-direct-routing") {
		// Docker 29 writes its raw chain anew for each container, and until
		// weft's accept is back in it, it would drop what other nodes send. It
		// still drops what is sent to ports that are not published. Who wrote
		// false wants it so.
		doc.set("allow-direct-routing", "true", &changes)
	}
	return doc.format(), changes, nil
}

// conflicts names the keys that docker0 on the leased subnet cannot do with.
func (d *object) conflicts(f envfile.File) (conflicts []string) {
	say := func(key, why string) {
		conflicts = append(conflicts, fmt.Sprintf("%q is %s, %s", key, d.values[key], why))
	}
	const remove = "; remove it if docker0 is to be on the leased subnet, or use `weftd docker-network create` instead"
	if b := d.text("bridge"); b != "" && b != "docker0" {
		say("bridge", "so that there is no docker0"+remove)
	}
	if d.has("bip") && !inside(d.text("bip"), f.Network) {
		say("bip", fmt.Sprintf("which is not of the cluster network %s%s", f.Network, remove))
	}
	if d.has("fixed-cidr") && !inside(d.text("fixed-cidr"), f.Subnet) {
		say("fixed-cidr", fmt.Sprintf("which is not in the leased subnet %s%s", f.Subnet.Masked(), remove))
	}
	if d.has("default-gateway") {
		say("default-gateway", "but containers must send by way of docker0"+remove)
	}
	if !f.IPv6Subnet.IsValid() {
		return conflicts
	}
	if d.has("bip6") && d.text("bip6") != f.IPv6Subnet.String() {
		say("bip6", fmt.Sprintf("which is not the address %s of the lease%s", f.IPv6Subnet, remove))
	}
	if d.has("fixed-cidr-v6") && !inside(d.text("fixed-cidr-v6"), f.IPv6Network) {
		say("fixed-cidr-v6", fmt.Sprintf("which is not of the cluster network %s%s", f.IPv6Network, remove))
	}
	return conflicts
}

// inside tells whether text is a prefix whose addresses all lie in outer.
func inside(text string, outer netip.Prefix) bool {
	p, err := netip.ParsePrefix(text)
	return err == nil && outer.Contains(p.Addr()) && p.Bits() >= outer.Bits()
}

// An object is a JSON object whose keys keep their order.
type object struct {
	keys   []string
	values map[string]json.RawMessage
}

func parseObject(data []byte) (*object, error) {
	d := &object{values: map[string]json.RawMessage{}}
	if len(bytes.TrimSpace(data)) == 0 {
		return d, nil
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil, fmt.Errorf("not a JSON object, as Docker wants it: %w", cmpErr(err, "it does not begin with {"))
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("not valid JSON: %w", err)
		}
		name := key.(string) // of an object's key the decoder takes nothing else
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("not valid JSON, at key %q: %w", name, err)
		}
		if !d.has(name) {
			d.keys = append(d.keys, name)
		}
		d.values[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("not valid JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not valid JSON: there is more after the closing }")
	}
	return d, nil
}

func cmpErr(err error, otherwise string) error {
	if err != nil {
		return err
	}
	return errors.New(otherwise)
}

func (d *object) has(key string) bool { return slices.Contains(d.keys, key) }

// text returns a string's value, and of anything else the JSON.
func (d *object) text(key string) string {
	var s string
	if json.Unmarshal(d.values[key], &s) != nil {
		return string(d.values[key])
	}
	return s
}

// set gives a key a value, which is JSON, and notes what that changes.
func (d *object) set(key, value string, changes *[]string) {
	old, had := string(d.values[key]), d.has(key)
	switch {
	case had && old == value:
		return
	case had:
		*changes = append(*changes, fmt.Sprintf("%q: %s instead of %s", key, value, old))
	default:
		d.keys = append(d.keys, key)
		*changes = append(*changes, fmt.Sprintf("%q: %s", key, value))
	}
	d.values[key] = json.RawMessage(value)
}

func (d *object) format() []byte {
	var flat bytes.Buffer
	flat.WriteByte('{')
	for i, key := range d.keys {
		if i > 0 {
			flat.WriteByte(',')
		}
		name, _ := json.Marshal(key) // of a string, without fail
		flat.Write(name)
		flat.WriteByte(':')
		flat.Write(d.values[key])
	}
	flat.WriteByte('}')
	var b bytes.Buffer
	_ = json.Indent(&b, flat.Bytes(), "", "  ") // each value was parsed before
	b.WriteByte('\n')
	return b.Bytes()
}
