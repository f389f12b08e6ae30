"""Deny by default: an API view that forgets to say who may call it answers nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.permissions import BasePermission

if TYPE_CHECKING:  # rest_framework.views itself imports this module
    from rest_framework.request import Request
    from rest_framework.views import APIView


class Denied(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        return False
