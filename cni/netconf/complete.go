package netconf

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/weftnet/weft/subnet/envfile"
)

// object is a JSON object of which only some keys are known here; what stands
// at the others is passed on as it was written.
type object = map[string]json.RawMessage

// ownNames are the names of this plugin: it would call itself without end as
// its delegate, or as the IPAM plugin that its delegate calls.
var ownNames = []string{"weft-cni", "flannel"}

// Complete makes the delegate's configuration for a node with the subnet that
// env says. As flannel's plugin does, it takes "delegate" and
//   - sets name, cniVersion and runtimeConfig to the network's;
//   - sets, unless there, type to bridge, mtu to the network's, ipMasq to the
//     opposite of what the daemon does, and for bridge isGateway to true;
//   - sets ipam to the network's, with the type host-local unless there,
//     ranges of this node's subnet, and a route to the whole network after
//     the routes there.
func (n *Network) Complete(env envfile.File) (Delegate, error) {
	fields, ipam, err := n.parts()
	if err != nil {
		return Delegate{}, err
	}
	setDefault(fields, "ipMasq", !env.IPMasq)
	setDefault(fields, "mtu", env.MTU)
	if err := setSubnet(ipam, env); err != nil {
		return Delegate{}, err
	}
	fields["ipam"] = encode(ipam)
	return newDelegate(fields)
}

// Incomplete is Complete without what depends on subnet.env: enough for GC on
// a node that has no subnet.
func (n *Network) Incomplete() (Delegate, error) {
	fields, ipam, err := n.parts()
	if err != nil {
		return Delegate{}, err
	}
	fields["ipam"] = encode(ipam)
	return newDelegate(fields)
}

// parts checks delegate and ipam, and sets what does not depend on the subnet.
func (n *Network) parts() (fields, ipam object, err error) {
	if fields, err = asObject("delegate", n.Delegate); err != nil {
		return nil, nil, err
	}
	if ipam, err = asObject("ipam", n.IPAM); err != nil {
		return nil, nil, err
	}
	if _, ok := fields["name"]; ok {
		return nil, nil, invalid("delegate has a name", "leave it out: the delegate gets the name of the network")
	}
	if _, ok := fields["ipam"]; ok {
		return nil, nil, invalid("delegate has ipam", "move it out of delegate, to stand beside it")
	}
	setDefault(fields, "type", "bridge")
	kind, err := pluginName("delegate.type", fields["type"], "bridge")
	if err != nil {
		return nil, nil, err
	}
	if kind == "bridge" {
		setDefault(fields, "isGateway", true)
	}
	setDefault(ipam, "type", "host-local")
	if _, err := pluginName("ipam.type", ipam["type"], "host-local"); err != nil {
		return nil, nil, err
	}
	fields["name"] = encode(n.Name)
	if n.CNIVersion != "" {
		fields["cniVersion"] = encode(n.CNIVersion)
	}
	if isSet(n.RuntimeConfig) {
		fields["runtimeConfig"] = n.RuntimeConfig
	}
	return fields, ipam, nil
}

// addressRange and route are as host-local has them.
type (
	addressRange struct {
		Subnet netip.Prefix `json:"subnet"`
	}
	route struct {
		Dst netip.Prefix `json:"dst"`
	}
)

// setSubnet sets the ranges and routes of ipam.
func setSubnet(ipam object, env envfile.File) error {
	var routes []json.RawMessage
	if raw := ipam["routes"]; isSet(raw) {
		if err := json.Unmarshal(raw, &routes); err != nil {
			return invalid("ipam.routes is no list", `write it as [{"dst": "192.0.2.0/24"}]`)
		}
	}
	ranges := [][]addressRange{{{env.Subnet.Masked()}}}
	routes = append(routes, encode(route{env.Network.Masked()}))
	if env.IPv6Subnet.IsValid() {
		ranges = append(ranges, []addressRange{{env.IPv6Subnet.Masked()}})
		routes = append(routes, encode(route{env.IPv6Network.Masked()}))
	}
	ipam["ranges"] = encode(ranges)
	ipam["routes"] = encode(routes)
	return nil
}

// asObject decodes a part of the configuration; none is an empty object.
func asObject(what string, raw json.RawMessage) (object, error) {
	var o object
	if isSet(raw) {
		if err := json.Unmarshal(raw, &o); err != nil {
			return nil, invalid(what+" is no object", "write it in braces: "+what+`": {…}`)
		}
	}
	if o == nil {
		o = object{}
	}
	return o, nil
}

// pluginName decodes the name of a plugin to call. The usual one is for advice.
func pluginName(what string, raw json.RawMessage, usual string) (string, error) {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil || s == "" || strings.ContainsRune(s, '/') {
		return "", invalid(fmt.Sprintf("%s is %s, which is not the name of a plugin", what, raw), "write the name of a program in CNI_PATH, without a directory")
	}
	if slices.Contains(ownNames, s) {
		return "", invalid(fmt.Sprintf("%s is %s, which is this plugin itself", what, s), "name another plugin, usually "+usual)
	}
	return s, nil
}

func setDefault(o object, key string, value any) {
	if !isSet(o[key]) {
		o[key] = encode(value)
	}
}

// isSet is false also for null, which other plugins read as not there.
func isSet(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// encode is for values that always have a JSON form.
func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage("null")
	}
	return b
}

func invalid(msg, advice string) error {
	return types.NewError(types.ErrInvalidNetworkConfig, msg, advice)
}
