package options

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

// A subcommand's set: flags and arguments may be mixed.
func TestSetArguments(t *testing.T) {
	tests := []struct {
		args   []string
		want   []string
		force  bool
		prefix string
	}{
		{nil, nil, false, "/coreos.com/network"},
		{[]string{"a.json"}, []string{"a.json"}, false, "/coreos.com/network"},
		{[]string{"a.json", "--force", "--etcd-prefix", "/p"}, []string{"a.json"}, true, "/p"},
		{[]string{"-etcd-prefix=/p", "-", "-force"}, []string{"-"}, true, "/p"},
		{[]string{"a", "--", "--force", "b"}, []string{"a", "--force", "b"}, false, "/coreos.com/network"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			var force bool
			var etcd Etcd
			s := NewSet("weftd config set")
			s.Bool(&force, "force", "even so")
			etcd.AddFlags(s)
			if err := s.Parse(tt.args, nil); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(s.Args(), tt.want) || force != tt.force || etcd.Prefix != tt.prefix {
				t.Errorf("arguments %q, force %v, prefix %q; want %q, %v, %q", s.Args(), force, etcd.Prefix, tt.want, tt.force, tt.prefix)
			}
		})
	}
}

// A subcommand's own flags are not read from the environment, where they
// might be meant for another one.
func TestSetEnvironmentOfSubcommand(t *testing.T) {
	var force bool
	var dir string
	var etcd Etcd
	s := NewSet("x")
	s.Bool(&force, "force", "")
	s.String(&dir, "dir", "DIR", "d", "")
	etcd.AddFlags(s)
	if err := s.Parse(nil, []string{"WEFTD_FORCE=true", "WEFTD_DIR=/x", "FLANNELD_ETCD_PREFIX=/p"}); err != nil {
		t.Fatal(err)
	}
	if force || dir != "d" || etcd.Prefix != "/p" {
		t.Errorf("force %v, dir %q, prefix %q", force, dir, etcd.Prefix)
	}
	if !s.Given("etcd-prefix") || s.Given("force") {
		t.Errorf("given: %v", s.given)
	}
}

func TestSecretIsHidden(t *testing.T) {
	o, err := Parse([]string{"--etcd-username=u", "--etcd-password=hunter2"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var text, jsonLog bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("m", "options", *o, "password", o.Etcd.Password)
	slog.New(slog.NewJSONHandler(&jsonLog, nil)).Info("m", "options", *o)
	marshalled, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{fmt.Sprint(o), fmt.Sprintf("%+v", *o), fmt.Sprintf("%#v", o.Etcd), fmt.Sprintf("%q", o.Etcd.Password), text.String(), jsonLog.String(), string(marshalled)} {
		if strings.Contains(printed, "hunter2") {
			t.Errorf("the password is in %s", printed)
		}
		if !strings.Contains(printed, hidden) {
			t.Errorf("the password has no trace in %s", printed)
		}
	}
	if string(o.Etcd.Password) != "hunter2" {
		t.Errorf("password %q", string(o.Etcd.Password))
	}
}

// Help has an entry for every flag, with the environment variable that
// stands for it and its default.
func TestUsage(t *testing.T) {
	var b bytes.Buffer
	Usage(&b)
	help := b.String()
	for _, want := range []string{
		"  --etcd-endpoints URL[,URL...]  [FLANNELD_ETCD_ENDPOINTS]\n",
		"(default http://127.0.0.1:4001,http://127.0.0.1:2379)\n",
		"  --ip-masq  [FLANNELD_IP_MASQ]\n        masquerade traffic that leaves the cluster network\n",
		"  --control-socket FILE  [WEFTD_CONTROL_SOCKET]\n",
		"  --version\n",
		"\nFlags of flannel without a meaning in weft:\n",
	} {
		if !strings.Contains(help, want) {
			t.Errorf("help lacks %q", want)
		}
	}
	var p parser
	for _, f := range p.flags().flags {
		if strings.Count(help, "\n  --"+f.name+" ")+strings.Count(help, "\n  --"+f.name+"\n") != 1 {
			t.Errorf("--%s is not there once", f.name)
		}
	}
	if n := strings.Count(help, "\nEtcd (flags of flannel):\n"); n != 1 {
		t.Errorf("the heading of the etcd flags is there %d times", n)
	}
}
