package envfile

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var (
	ipv4File = File{
		Network: netip.MustParsePrefix("10.5.0.0/16"),
		Subnet:  netip.MustParsePrefix("10.5.52.1/24"),
		MTU:     1450,
	}
	dualFile = File{
		Network:     netip.MustParsePrefix("10.5.0.0/16"),
		Subnet:      netip.MustParsePrefix("10.5.52.1/24"),
		IPv6Network: netip.MustParsePrefix("fd00:5::/48"),
		IPv6Subnet:  netip.MustParsePrefix("fd00:5:0:34::1/64"),
		MTU:         1472,
		IPMasq:      true,
	}
)

const (
	ipv4Text = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.52.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
	dualText = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.52.1/24\n" +
		"FLANNEL_IPV6_NETWORK=fd00:5::/48\nFLANNEL_IPV6_SUBNET=fd00:5:0:34::1/64\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n"
)

func TestWriteAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "flannel", "subnet.env")
	if _, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading no file: error %v, want %v", err, fs.ErrNotExist)
	}
	for _, tt := range []struct {
		file File
		text string
	}{{ipv4File, ipv4Text}, {dualFile, dualText}, {ipv4File, ipv4Text}} {
		if err := Write(path, tt.file); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil || string(b) != tt.text {
			t.Errorf("wrote %q, error %v; want %q", b, err, tt.text)
		}
		if got, err := Read(path); err != nil || got != tt.file {
			t.Errorf("read %+v, error %v; want %+v", got, err, tt.file)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o644 {
		t.Errorf("mode %v, error %v; want 0644", st.Mode(), err)
	}
	for range 2 {
		if err := Remove(path); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the removed file is there: %v", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "subnet.env")
	half := dualFile
	half.IPv6Subnet = netip.Prefix{}
	for _, f := range []File{{}, half, {Network: ipv4File.Network, Subnet: ipv4File.Subnet}} {
		if err := Write(path, f); err == nil {
			t.Errorf("%+v was written", f)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused file is there: %v", err)
	}
}

func TestReadTolerates(t *testing.T) {
	for name, text := range map[string]string{
		"CRLF":             strings.ReplaceAll(ipv4Text, "\n", "\r\n"),
		"no last newline":  strings.TrimSuffix(ipv4Text, "\n"),
		"comments":         "# by hand\n\n" + ipv4Text + "  # end\n",
		"trailing comment": strings.Replace(ipv4Text, "1450", "1450 # bytes", 1),
		"double quotes":    strings.Replace(ipv4Text, "10.5.52.1/24", `"10.5.52.1/24" # ours`, 1),
		"single quotes":    strings.Replace(ipv4Text, "10.5.52.1/24", `'10.5.52.1/24'`, 1),
		"export":           strings.ReplaceAll(ipv4Text, "FLANNEL_", "export FLANNEL_"),
		"blanks":           strings.ReplaceAll(ipv4Text, "=", " = "),
		"unknown keys":     "FOO=bar\nEMPTY=\n" + ipv4Text + "FLANNEL_OTHER=\"x=y\"\n",
		"last one counts":  "FLANNEL_MTU=9000\n" + ipv4Text,
		"other order":      "FLANNEL_IPMASQ=false\nFLANNEL_MTU=1450\nFLANNEL_SUBNET=10.5.52.1/24\nFLANNEL_NETWORK=10.5.0.0/16\n",
		"other spelling":   strings.Replace(ipv4Text, "=false", "=0", 1),
	} {
		got, err := parse([]byte(text))
		if err != nil || got != ipv4File {
			t.Errorf("%s: read %+v, error %v", name, got, err)
		}
	}
}

func TestReadErrors(t *testing.T) {
	replaced := func(old, new string) string { return strings.Replace(dualText, old, new, 1) }
	tests := []struct {
		text string
		want []string
	}{
		{"", []string{"FLANNEL_NETWORK is missing"}},
		{"FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUB", []string{"line 2", `"FLANNEL_SUB"`, "KEY=value"}},
		{replaced("FLANNEL_SUBNET=10.5.52.1/24\n", ""), []string{"FLANNEL_SUBNET is missing"}},
		{replaced("FLANNEL_MTU=1472\n", ""), []string{"FLANNEL_MTU is missing"}},
		{replaced("FLANNEL_IPMASQ=true\n", ""), []string{"FLANNEL_IPMASQ is missing"}},
		{replaced("FLANNEL_IPV6_NETWORK=fd00:5::/48\n", ""), []string{"both", "FLANNEL_IPV6_NETWORK"}},
		{replaced("10.5.52.1/24", "10.5.52.1"), []string{"line 2", `FLANNEL_SUBNET="10.5.52.1"`, "10.5.34.1/24"}},
		{replaced("10.5.52.1/24", ""), []string{"line 2", `FLANNEL_SUBNET=""`, "IPv4"}},
		{replaced("10.5.52.1/24", `"10.5.52.1/24`), []string{"line 2", "quote"}},
		{replaced("10.5.52.1/24", "10.6.52.1/24"), []string{"FLANNEL_SUBNET=10.6.52.1/24", "FLANNEL_NETWORK=10.5.0.0/16"}},
		{replaced("10.5.52.1/24", "10.5.52.1/15"), []string{"FLANNEL_SUBNET=10.5.52.1/15"}},
		{replaced("10.5.0.0/16", "10.5.0.0/16,10.6.0.0/16"), []string{"line 1", "FLANNEL_NETWORK", "IPv4 prefix"}},
		{replaced("fd00:5::/48", "10.0.0.0/8"), []string{"line 3", "FLANNEL_IPV6_NETWORK", "IPv6 prefix"}},
		{replaced("fd00:5:0:34::1/64", "::ffff:10.0.0.1/112"), []string{"line 4", "IPv6 address"}},
		{replaced("1472", "0"), []string{"line 5", `FLANNEL_MTU="0"`, "1 to 65535"}},
		{replaced("1472", "big"), []string{"line 5", "1 to 65535"}},
		{replaced("=true", "=yes"), []string{"line 6", `FLANNEL_IPMASQ="yes"`, "true or false"}},
	}
	for _, tt := range tests {
		got, err := parse([]byte(tt.text))
		if err == nil {
			t.Errorf("%q: read as %+v", tt.text, got)
			continue
		}
		for _, w := range tt.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: error %q does not say %q", tt.text, err, w)
			}
		}
	}
}

func TestReadNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "subnet.env")
	for _, content := range []string{"junk", strings.Repeat("#", 100<<10)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("error %v does not name %s", err, path)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(ipv4Text))
	f.Add([]byte(dualText))
	f.Add([]byte("export FLANNEL_MTU='1' # x\r\nFLANNEL_SUBNET=\n=\n\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parse(data)
		if err != nil {
			if file != (File{}) {
				t.Fatalf("got %+v with error %v", file, err)
			}
			return
		}
		again, err := parse(file.format())
		if err != nil || again != file {
			t.Fatalf("%q is %+v, and written and read again %+v, error %v", data, file, again, err)
		}
	})
}
