package pay_test

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ethereum/go-ethereum/common"
	"pgregory.net/rapid"

	"bursar/evm"
	"bursar/pay"
)

func TestStripPaymentHeaders(t *testing.T) {
	h := http.Header{
		"X-Payment": {"a"}, "PAYMENT-SIGNATURE": {"b"}, "payment-signature": {"c"}, "X-Payment-Tx": {"0x"},
		"Authorization": {"Payment abc", "Bearer t", "payment x=1", "Bearer u, Payment abc", "Payment"}, "authorization": {"PAYMENT y"},
		"Payment-Authorization": {"Payment abc"}, "sign-in-with-x": {"abc"},
		"Accept": {"*/*"}, "X-Payment-Response": {"kept"},
	}
	pay.StripPaymentHeaders(h)
	want := http.Header{"Authorization": {"Bearer t"}, "Accept": {"*/*"}, "X-Payment-Response": {"kept"}}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("left %v", h)
	}
	pay.StripPaymentHeaders(nil)
}

func TestCheck(t *testing.T) {
	n, _ := evm.NetworkByID(evm.BaseSepoliaID)
	w := pay.Wallet{Network: n, Address: common.HexToAddress("0x1000000000000000000000000000000000000001")}
	good := pay.Offer{Network: n, Asset: n.USDC, Amount: 1, PayTo: common.HexToAddress("0x02"), ValidFor: 11 * time.Second}
	if err := pay.Check(good, w); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*pay.Offer){
		"forged domain":  func(o *pay.Offer) { o.Network.DomainName = "Evil" },
		"forged token":   func(o *pay.Offer) { o.Network.USDC[0]++; o.Asset = o.Network.USDC },
		"no network":     func(o *pay.Offer) { o.Network = evm.Network{} },
		"other network":  func(o *pay.Offer) { o.Network, _ = evm.NetworkByID(evm.BaseID); o.Asset = o.Network.USDC },
		"dev, same USDC": func(o *pay.Offer) { o.Network, _ = evm.NetworkByID(evm.DevID) },
		"window of 10 s": func(o *pay.Offer) { o.ValidFor = pay.MinWindow },
		"not set up":     func(o *pay.Offer) { o.Kind, o.ValidFor = pay.Transfer, time.Minute },
		"already out":    func(o *pay.Offer) { o.Refused = "x" },
	} {
		o := good
		spoil(&o)
		if pay.Check(o, w) == nil {
			t.Errorf("%s passes", name)
		}
	}
}

func TestText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := pay.Text(rapid.String().Draw(t, "s"))
		if len(s) > 200 || !utf8.ValidString(s) || strings.ContainsAny(s, "\n\r\x1b\x00") {
			t.Fatalf("%q", s)
		}
	})
	if got := pay.Text(strings.Repeat("é", 500)); len(got) != 200 || !utf8.ValidString(got) {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

func TestSeconds(t *testing.T) {
	for n, want := range map[int64]time.Duration{-1: 0, 0: 0, 60: time.Minute, 1 << 62: 24 * time.Hour} {
		if got := pay.Seconds(n); got != want {
			t.Errorf("Seconds(%d) = %s", n, got)
		}
	}
}
