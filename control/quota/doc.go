// Package quota is the arithmetic of ResourceQuotas and the ledger of what is
// charged to them (https://kubernetes.io/docs/concepts/policy/resource-quotas/).
//
// A Meter says what one object of a kind uses and which quotas bound it; it is
// a pure function that admission and the controller share, so that both count
// alike. A Ledger charges writes before they are stored and lets the
// controller count again without losing what is on its way to the store.
package quota
