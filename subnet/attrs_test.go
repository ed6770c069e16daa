package subnet

import (
	"encoding/json"
	"net/netip"
	"testing"
)

func TestAttrsJSON(t *testing.T) {
	tests := []struct {
		name  string
		attrs Attrs
		json  string
	}{
		{"flannel's example", // Documentation/reservations.md there
			Attrs{PublicIP: netip.MustParseAddr("192.168.64.3"), BackendType: "vxlan", BackendData: []byte(`{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}`)},
			`{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}`},
		{"weft", Attrs{PublicIP: netip.MustParseAddr("192.0.2.1"), PublicIPv6: netip.MustParseAddr("2001:db8::1"), NodeID: "0123", BackendType: "udp", BackendData: []byte(`{"weft":1}`), BackendV6Data: []byte(`{}`)},
			`{"PublicIP":"192.0.2.1","PublicIPv6":"2001:db8::1","NodeID":"0123","BackendType":"udp","BackendData":{"weft":1},"BackendV6Data":{}}`},
		{"IPv6 underlay", Attrs{PublicIPv6: netip.MustParseAddr("2001:db8::1"), NodeID: "0123"},
			`{"PublicIP":"0.0.0.0","PublicIPv6":"2001:db8::1","NodeID":"0123"}`},
		{"nobody", Attrs{}, `{"PublicIP":"0.0.0.0","PublicIPv6":null}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := json.Marshal(tt.attrs)
			if err != nil || string(b) != tt.json {
				t.Errorf("written as %s, error %v; want %s", b, err, tt.json)
			}
			var got Attrs
			if err := json.Unmarshal([]byte(tt.json), &got); err != nil || !got.Equal(tt.attrs) {
				t.Errorf("read as %+v, error %v; want %+v", got, err, tt.attrs)
			}
		})
	}
}

func TestAttrsForeignJSON(t *testing.T) {
	want := Attrs{PublicIP: netip.MustParseAddr("192.0.2.1")}
	for _, value := range []string{
		`{"PublicIP":"192.0.2.1"}`,
		`{"publicip":"192.0.2.1","PublicIPv6":"::","BackendData":null,"BackendV6Data":null}`,
		`{"PublicIP":"192.0.2.1","PublicIPv6":"","BackendType":"","Unknown":{"a":[1]}}`,
		" {\"PublicIP\" : \"::ffff:192.0.2.1\"}\n",
	} {
		var got Attrs
		if err := json.Unmarshal([]byte(value), &got); err != nil || !got.Equal(want) {
			t.Errorf("%s: read as %+v, error %v", value, got, err)
		}
	}
	for _, value := range []string{`{}`, `{"PublicIP":null}`, `{"PublicIP":""}`, `{"PublicIP":"0.0.0.0"}`} {
		var got Attrs
		if err := json.Unmarshal([]byte(value), &got); err != nil || !got.Equal(Attrs{}) {
			t.Errorf("%s: read as %+v, error %v", value, got, err)
		}
	}
}

func TestAttrsErrors(t *testing.T) {
	for _, value := range []string{
		``, `null`, `[]`, `"x"`, `{`, `{"PublicIP":7}`, `{"PublicIP":"x"}`, `{"PublicIP":"2001:db8::1"}`,
		`{"PublicIPv6":"192.0.2.1"}`, `{"PublicIPv6":"::ffff:192.0.2.1"}`, `{"PublicIPv6":"fe80::1%eth0"}`,
		`{"PublicIP":"192.0.2.1","BackendType":3}`, `{"PublicIP":"192.0.2.1","NodeID":{}}`,
	} {
		var got Attrs
		if err := json.Unmarshal([]byte(value), &got); err == nil {
			t.Errorf("%s: accepted as %+v", value, got)
		}
	}
	for _, a := range []Attrs{
		{PublicIP: netip.MustParseAddr("2001:db8::1")},
		{PublicIPv6: netip.MustParseAddr("192.0.2.1")},
		{PublicIPv6: netip.MustParseAddr("fe80::1%eth0")},
		{BackendData: []byte(`{`)},
	} {
		if b, err := json.Marshal(a); err == nil {
			t.Errorf("%+v: written as %s", a, b)
		}
	}
}

func TestAttrsEqual(t *testing.T) {
	a := Attrs{PublicIP: netip.MustParseAddr("192.0.2.1"), BackendData: []byte(`{"a": "<"}`)}
	b := a
	b.BackendData = []byte("{\"a\":\"\\u003c\"}")
	if !a.Equal(b) || !b.Equal(a) {
		t.Error("values that are written alike are not equal")
	}
	b.BackendData = []byte(`{"a":">"}`)
	if a.Equal(b) || b.Equal(a) {
		t.Error("different values are equal")
	}
	b.BackendData = []byte(`{`)
	if a.Equal(b) || b.Equal(a) {
		t.Error("a broken value is equal to another")
	}
}

func FuzzAttrs(f *testing.F) {
	f.Add([]byte(`{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}`))
	f.Add([]byte(`{"PublicIP":"0.0.0.0","PublicIPv6":"2001:db8::1","NodeID":"0123","BackendV6Data":{"<":"&"}}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		var a Attrs
		if json.Unmarshal(value, &a) != nil {
			return
		}
		b, err := json.Marshal(a)
		if err != nil {
			t.Fatalf("%s is read but not written: %v", value, err)
		}
		var again Attrs
		if err := json.Unmarshal(b, &again); err != nil || !again.Equal(a) {
			t.Fatalf("%s, then %s: read as %+v, then %+v, error %v", value, b, a, again, err)
		}
	})
}
