package server

import (
	"reflect"
	"testing"
)

func TestListsThatHoldNothingAreLists(t *testing.T) {
	type inner struct {
		Tags []string `json:"tags"`
		Raw  []byte   `json:"raw"`
	}
	type outer struct {
		Items  []*inner `json:"items"`
		Left   []int    `json:"left,omitempty"`
		One    *inner   `json:"one"`
		hidden []string
	}
	shared := &inner{}
	got, changed := withLists(reflect.ValueOf(&outer{Items: []*inner{shared}, One: &inner{}}))
	o := got.Interface().(*outer)
	if !changed || o.Items[0].Tags == nil || o.One.Tags == nil || o.Left != nil || o.hidden != nil ||
		o.Items[0].Raw != nil {
		t.Errorf("%+v", o)
	}
	if shared.Tags != nil {
		t.Error("what was given was changed")
	}
	if _, changed := withLists(reflect.ValueOf(&outer{Items: []*inner{}})); changed {
		t.Error("nothing was to be changed")
	}
}
