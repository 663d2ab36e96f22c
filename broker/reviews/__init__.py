"""Grants and accounts, looked at again by people in time: is this still needed?"""
