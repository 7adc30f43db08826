"""Clients of the three providers for Python tests: what a merchant signs and sends."""

from __future__ import annotations

import json
import os
import secrets
import time
import typing
from datetime import datetime
from urllib.parse import quote, urlencode

import alipay_protocol
import stripe_protocol
import wechat_protocol
from gateway_process import HERE, Gateway
from rsa_keys import Key

VECTORS = os.path.join(HERE, "..", "vectors")
WECHAT_KEYS = os.path.join(VECTORS, "wechat")
ALIPAY_KEYS = os.path.join(VECTORS, "alipay")
PI = stripe_protocol.DIALECT.transaction_id
Fields = dict[str, typing.Any]
Answer = tuple[int, typing.Any, bytes]


class WechatClient:
    path = "/v3/refund/domestic/refunds"

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.keys = wechat_protocol.Keys(WECHAT_KEYS)
        self._private = Key(WECHAT_KEYS, "merchant_private_key_pkcs8.pem")

    def demand(self, refund_no: str, **changes: typing.Any) -> Fields:
        payment_id = refund_no.rsplit("-", 1)[0]
        fields = {
            "transaction_id": wechat_protocol.DIALECT.transaction_id(payment_id),
            "out_refund_no": refund_no,
            "reason": "重复支付",
            "amount": {"refund": 3200, "total": 3200, "currency": "CNY"},
        }
        return {name: value for name, value in {**fields, **changes}.items() if value is not None}

    def headers(
        self, method: str, target: str, body: bytes, **changes: str | None
    ) -> dict[str, str]:
        """`changes` are attributes of Authorization, or headers; None leaves one out."""
        timestamp = changes.get("timestamp") or str(int(time.time()))
        nonce = changes.get("nonce_str") or secrets.token_hex(16)
        text = wechat_protocol.signed_request(method, target, timestamp, nonce, body)
        attributes = {
            "mchid": self.keys.mchid,
            "nonce_str": nonce,
            "timestamp": timestamp,
            "serial_no": self.keys.merchant_serial,
            "signature": self._private.sign(text),
        }
        given: dict[str, str | None] = {**attributes}
        given.update({k: v for k, v in changes.items() if k in attributes})
        pairs = ",".join(f'{k}="{v}"' for k, v in given.items() if v is not None)
        headers: dict[str, str | None] = {
            "Accept": "application/json",
            "User-Agent": "payonce-test",
            "Content-Type": "application/json" if body else None,
            "Authorization": f"{wechat_protocol.SCHEME} {pairs}",
            **{k: v for k, v in changes.items() if k not in attributes},
        }
        return {name: value for name, value in headers.items() if value is not None}

    def send(self, method: str, target: str, body: bytes = b"", **changes: str | None) -> Answer:
        headers = self.headers(method, target, body, **changes)
        return self.gateway.call(method, target, body or None, headers)

    def refund(self, refund_no: str, **changes: typing.Any) -> tuple[int, typing.Any]:
        body = json.dumps(self.demand(refund_no, **changes)).encode()
        status, _, answer = self.send("POST", self.path, body)
        return status, json.loads(answer)

    def query(self, refund_no: str) -> tuple[int, typing.Any]:
        status, _, answer = self.send("GET", f"{self.path}/{quote(refund_no, safe='')}")
        return status, json.loads(answer)


class AlipayClient:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.keys = alipay_protocol.Keys(ALIPAY_KEYS)
        self._private = Key(ALIPAY_KEYS, "app_private_key_pkcs8.pem")

    def parameters(self, method: str, biz: Fields, **changes: str | None) -> dict[str, str]:
        """`changes` are signed like the rest, but for a signature."""
        parameters: dict[str, str | None] = {
            "app_id": self.keys.app_id,
            "method": method,
            **alipay_protocol.FIXED,
            "timestamp": datetime.now(alipay_protocol.BEIJING).strftime("%Y-%m-%d %H:%M:%S"),
            "biz_content": json.dumps(biz, ensure_ascii=False),
            **changes,
        }
        signature = parameters.pop("sign", None)
        signed = {name: value for name, value in parameters.items() if value is not None}
        signed["sign"] = signature or self._private.sign(alipay_protocol.canonical(signed))
        return signed

    def send(self, parameters: dict[str, str]) -> Answer:
        headers = {"Content-Type": "application/x-www-form-urlencoded;charset=utf-8"}
        return self.gateway.call("POST", "/gateway.do", urlencode(parameters).encode(), headers)

    def call(self, method: str, biz: Fields, **changes: str | None) -> typing.Any:
        """The node of the answer."""
        _, _, body = self.send(self.parameters(method, biz, **changes))
        answer = json.loads(body)
        return answer.get(method.replace(".", "_") + "_response") or answer["error_response"]

    def refund(self, refund_no: str, **changes: typing.Any) -> typing.Any:
        payment_id = refund_no.rsplit("-", 1)[0]
        biz = {
            "trade_no": alipay_protocol.DIALECT.transaction_id(payment_id),
            "refund_amount": "32.00",
            "out_request_no": refund_no,
            "refund_reason": "重复支付 a&b=c+d",
        }
        kept = {name: value for name, value in {**biz, **changes}.items() if value is not None}
        return self.call(alipay_protocol.REFUND_METHOD, kept)

    def query(self, refund_no: str, **changes: typing.Any) -> typing.Any:
        payment_id = refund_no.rsplit("-", 1)[0]
        biz = {
            "trade_no": alipay_protocol.DIALECT.transaction_id(payment_id),
            "out_request_no": refund_no,
            **changes,
        }
        return self.call(alipay_protocol.QUERY_METHOD, biz)


class StripeClient:
    secret_key = "sk_test_payonce_not_a_real_key"

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def headers(self, **changes: str | None) -> dict[str, str]:
        headers: dict[str, str | None] = {
            "Authorization": f"Bearer {self.secret_key}",
            "Stripe-Version": "2026-10-28.endive",
            "Content-Type": "application/x-www-form-urlencoded",
            **changes,
        }
        return {name: value for name, value in headers.items() if value is not None}

    def parameters(self, refund_no: str, **changes: typing.Any) -> dict[str, str]:
        parameters = {
            "payment_intent": PI(refund_no.rsplit("-", 1)[0]),
            "amount": "3200",
            "metadata[out_refund_no]": refund_no,
        }
        return {
            name: value for name, value in {**parameters, **changes}.items() if value is not None
        }

    def post(self, key: str, parameters: dict[str, str], **headers: str | None) -> Answer:
        body = urlencode(parameters, safe="[]").encode()
        named: dict[str, str | None] = {"Idempotency-Key": key, **headers}
        sent = self.headers(**named)
        return self.gateway.call("POST", "/v1/refunds", body, sent)

    def refund(
        self, refund_no: str, key: str | None = None, **changes: typing.Any
    ) -> tuple[int, typing.Any]:
        status, _, body = self.post(key or f"{refund_no}-a1", self.parameters(refund_no, **changes))
        return status, json.loads(body)

    def get(self, target: str, **headers: str | None) -> tuple[int, typing.Any]:
        status, _, body = self.gateway.call(
            "GET", f"/v1/refunds{target}", None, self.headers(**headers)
        )
        return status, json.loads(body)

    def list(self, payment_id: str, **more: typing.Any) -> tuple[int, typing.Any]:
        return self.get("?" + urlencode({"payment_intent": PI(payment_id), **more}))
